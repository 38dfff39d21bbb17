"""Non-dominated sorting as it is defined: front by front."""


def naive_fronts(points):
    left, fronts, front = set(range(len(points))), [0] * len(points), 0
    while left:
        first = {
            i
            for i in left
            if not any(
                all(a >= b for a, b in zip(points[j], points[i], strict=True))
                and any(a > b for a, b in zip(points[j], points[i], strict=True))
                for j in left
            )
        }
        for i in first:
            fronts[i] = front
        left, front = left - first, front + 1
    return fronts
