"use strict";
/* The figures of the page, drawn by Vega-Lite from the page's data. Colours are variables of the
   style sheet, so that a figure follows the theme. */
const COLOURS = [0, 1, 2, 3, 4, 5, 6, 7].map((i) => `var(--c${i})`);
const MOST_BARS = 150; // points that show their error as a bar; of more it is in the hover
const percent = (value, digits = 2) => (value == null ? "n/a" : (100 * value).toFixed(digits));
const plus_minus = (value, error) =>
  `${percent(value)}${error == null ? "" : ` ± ${percent(error)}`} %`;
const known = (value) => value != null && Number.isFinite(value);
const amount = (value) => (!known(value) ? "n/a"
  : Math.abs(value) >= 1000 ? Math.round(value).toLocaleString("en")
    : value && Math.abs(value) < 1e-3 ? value.toExponential(2) : String(+value.toPrecision(4)));
const SPLITS = {
  test: "test", clean: "test, without copies", selection: "selection clips (what was chosen on)",
};

const config = {
  background: "transparent", font: "system-ui, sans-serif", padding: 4,
  view: { stroke: null },
  axis: {
    labelColor: "var(--soft)", titleColor: "var(--soft)", gridColor: "var(--grid)",
    domainColor: "var(--line)", tickColor: "var(--line)", labelFontSize: 11, titleFontSize: 12,
    titleFontWeight: 400, labelLimit: 220, titlePadding: 8,
  },
  text: { fill: "var(--ink)" },
};

const tip = page.make("div", { className: "tip", hidden: true });
tip.setAttribute("role", "status");
document.body.append(tip);
/* In place of Vega's own: words go in as text, never as HTML. */
function show_tip(handler, event, item, value) {
  if (value == null) { tip.hidden = true; return; }
  const lines = typeof value === "object" ? Object.entries(value) : [["", String(value)]];
  tip.replaceChildren(...lines.map(([name, text]) => page.make("div", {},
    page.make("span", { textContent: name }), page.make("span", { textContent: text }))));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = event.clientX + 14 + box.width > innerWidth ? event.clientX - box.width - 14
    : event.clientX + 14;
  const top = event.clientY + 14 + box.height > innerHeight ? event.clientY - box.height - 14
    : event.clientY + 14;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}

const objects = (found) => (found ? found.rows.map((row) =>
  Object.fromEntries(found.columns.map((name, i) => [name, row[i]]))) : []);
const tooltip = (...fields) => fields.map((field) => ({ field, type: "nominal" }));
const distinct = (values) => [...new Set(values)];
const colour_of = (names) => new Map(names.map((name, i) => [name, COLOURS[i % COLOURS.length]]));
/* Limits that hold every value and a little more. */
function span(values, share = 0.06) {
  const own = values.filter(known);
  if (!own.length) return [0, 1];
  const [low, high] = [Math.min(...own), Math.max(...own)];
  const room = (high - low) * share || Math.abs(high) * 0.02 || 0.5;
  return [low - room, high + room];
}

/* Each figure: `controls` (name -> [label, [value, words], ...]) and `spec` (state, width) ->
   {spec, legend, note} or a string where there is nothing to draw. */
const charts = {};

/* ---- accuracy against cost ---- */
(function cost() {
  const data = page.data("cost");
  if (!data) return;
  const rows = objects(data.rows), trials = objects(data.trials);
  const splits = ["test", "clean", "selection"].filter((s) => rows.some((row) => known(row[s])));
  const axes = Object.entries(data.costs).filter(([name]) =>
    [...rows, ...trials].some((row) => known(row[name])));
  const sets = [];
  if (rows.length) sets.push(["rows", "networks and ensembles"]);
  if (rows.some((row) => row.kind === "ensemble")) sets.push(["ensembles", "ensembles only"]);
  if (rows.some((row) => row.kind !== "ensemble")) sets.push(["networks", "single networks only"]);
  if (trials.length) sets.push(["trials", "every finished trial (selection)"]);
  charts.cost = {
    controls: {
      x: ["Cost", axes],
      y: ["Accuracy", (splits.length ? splits : ["selection"]).map((s) => [s, SPLITS[s]])],
      set: ["Show", sets],
      scale: ["Axis of cost", [["log", "logarithmic"], ["linear", "linear"]]],
    },
    spec(state, width) {
      const of_trials = state.set === "trials";
      const split = of_trials ? "selection" : state.y;
      const chosen = of_trials ? trials : rows.filter((row) => state.set === "rows"
        || (row.kind === "ensemble") === (state.set === "ensembles"));
      const error = `${split}_error`;
      const groups = distinct(chosen.map((row) => row.group));
      const colours = colour_of(groups);
      const log = state.scale === "log";
      const points = chosen
        .filter((row) => known(row[state.x]) && known(row[split]) && (!log || row[state.x] > 0))
        .filter((row) => !state.hidden.has(row.group))
        .map((row) => ({
          x: row[state.x], y: 100 * row[split], e: 100 * (row[error] ?? 0), kind: row.kind,
          colour: colours.get(row.group), name: row.name, ship: data.ships.includes(row.name),
          accuracy: plus_minus(row[split], row[error]), cost: amount(row[state.x]),
          non_zero: amount(row.nonzero), latency: known(row.latency) ? `${row.latency} ms` : "n/a",
        }));
      if (!points.length) return "No network has both figures.";
      const front = [];
      for (const each of [...points].sort((a, b) => a.x - b.x || b.y - a.y)) {
        if (!front.length || each.y > front.at(-1).y) front.push(each);
      }
      const words = Object.fromEntries(axes)[state.x];
      const x = { field: "x", type: "quantitative", title: words,
        scale: { type: state.scale, ...(log ? {} : { zero: false }), nice: false, padding: 26 },
        axis: { grid: true, labelOverlap: true, format: "~s", tickCount: width < 500 ? 4 : 8 } };
      const bars = points.length <= MOST_BARS;
      const domain = span(bars ? points.flatMap((p) => [p.y - p.e, p.y + p.e])
        : points.map((p) => p.y));
      const y = { field: "y", type: "quantitative", title: `top-1 on ${SPLITS[split]}, %`,
        scale: { domain, nice: false, zero: false } };
      const shapes = { "dense network": "square", network: "circle", trial: "circle",
        ensemble: "diamond" };
      const kinds = distinct(points.map((p) => p.kind));
      const layer = [
        { data: { values: front }, mark: { type: "line", interpolate: "step-after",
          color: "var(--muted)", strokeDash: [4, 3], strokeWidth: 1.2 }, encoding: { x, y } },
        { mark: { type: "point", filled: true, opacity: bars ? 0.95 : 0.55, strokeWidth: 1.5 },
          encoding: { x, y, color: { field: "colour", type: "nominal", scale: null },
            size: { condition: { test: "datum.ship", value: 190 },
              value: bars ? (points.length > 40 ? 60 : 95) : 28 },
            stroke: { condition: { test: "datum.ship", value: "var(--ink)" }, value: null },
            shape: { field: "kind", type: "nominal", legend: null,
              scale: { domain: kinds, range: kinds.map((kind) => shapes[kind] ?? "circle") } },
            tooltip: tooltip("name", "kind", "accuracy", "cost", "non_zero", "latency") } },
        { data: { values: points.filter((p) => p.ship) }, mark: { type: "text", dy: -15, fontSize: 11.5,
          fontWeight: 600, limit: Math.max(120, width / 2.2) },
        encoding: { x, y, text: { field: "name" } } },
      ];
      const budgets = of_trials ? [] : (data.fronts ?? [])
        .filter((point) => point.cost === state.x && known(point[split]))
        .map((point) => ({ x: point.x, y: 100 * point[split], name: point.name,
          accuracy: plus_minus(point[split], point[error]), cost: amount(point.x) }));
      layer.splice(1, 0, // below the points, which keep their hover
        { data: { values: budgets }, mark: { type: "line", interpolate: "step-after",
          color: "var(--c3)", strokeWidth: 1.2 }, encoding: { x, y } },
        { data: { values: budgets }, mark: { type: "point", shape: "triangle-up", filled: true,
          color: "var(--c3)", size: 60 },
        encoding: { x, y, tooltip: tooltip("name", "accuracy", "cost") } });
      if (bars) layer.splice(1, 0, { mark: { type: "rule", opacity: 0.45 }, encoding: { x,
        y: { ...y, field: "low" }, y2: { field: "high" },
        color: { field: "colour", type: "nominal", scale: null } },
      transform: [{ calculate: "datum.y - datum.e", as: "low" },
        { calculate: "datum.y + datum.e", as: "high" }] });
      return { spec: { data: { values: points }, layer, width, height: 400 },
        legend: groups.map((name) => ({ name, colour: colours.get(name) })),
        note: `${kinds.map((kind) => `${kind}: ${shapes[kind] ?? "circle"}`).join(", ")}. Bars and ±:`
          + " one standard error of the clips. The dashed line joins those that no cheaper one"
          + ` equals in what is drawn${split === "selection" ? "" : "; it decided nothing"}.`
          + (budgets.length ? " Triangles: the greedy ensemble of all cells within a budget." : "")
          + (split === "selection" ? " What is chosen by these figures looks better than it is."
            : "") };
    },
  };
})();

/* ---- accuracy by level ---- */
(function levels() {
  const data = page.data("levels");
  if (!data) return;
  const dense_of = new Map(data.lines.filter((line) => line.kind === "flat")
    .map((line) => [line.group.replace(/(^|: )dense(, |$)/, "$1"), line.points[0]]));
  const comparable = data.lines.some((line) => line.kind === "levels" && dense_of.has(line.group));
  const places = distinct(data.published.map((curve) => `${curve.data} ${curve.streams}`.trim()));
  const same = places.filter((place) => data.same_data.some((own) => place.startsWith(own)));
  const methods = distinct(data.published.map((curve) => curve.method));
  const near = methods.filter((name) => data.methods.includes(name));
  const first = same.length || !comparable ? "top1" : "change";
  const none = ["", "none"], theirs_first = same.length || comparable; // else no scale holds both
  const modes = [["top1", "top-1 on test"], ["change", "points against the dense network"]];
  charts.levels = {
    controls: {
      y: ["Accuracy", first === "top1" ? modes : modes.reverse()],
      method: ["Published curves of", [...(theirs_first ? [] : [none]),
        ...near.map((name) => [name, name]), ...(theirs_first ? [none] : []), ...methods.filter((name) => !near.includes(name)).map((name) => [name, name]),
        ["*", "all networks"]]],
      place: ["on", [...same, ...places.filter((place) => !same.includes(place))]
        .map((place) => [place, same.includes(place) ? place : `${place} (another data set)`])],
    },
    spec(state, width) {
      const change = state.y === "change";
      const groups = distinct(data.lines.map((line) => line.group));
      const colours = colour_of(groups);
      const points = [], flats = [];
      for (const line of data.lines.filter((each) => !state.hidden.has(each.group))) {
        const plain = line.group.replace(/(^|: )dense(, |$)/, "$1");
        const dense = dense_of.get(plain);
        if (change && !dense) continue;
        const base = change ? dense.top1 : 0;
        for (const point of line.points) {
          const each = { name: line.name, colour: colours.get(line.group),
            kept: 1 - point.level, y: 100 * (point.top1 - base), e: 100 * point.error,
            level: line.kind === "levels" ? String(+point.level.toPrecision(4)) : "",
            accuracy: plus_minus(point.top1, point.error), kind: line.kind };
          (line.kind === "levels" ? points : flats).push(each);
        }
      }
      const published = data.published.filter((curve) => state.method
        && (state.method === "*" || curve.method === state.method)
        && `${curve.data} ${curve.streams}`.trim() === state.place && (!change || curve.dense));
      const theirs = published.flatMap((curve, i) => curve.points.map((point) => ({
        name: `${curve.method}, published`, kept: 1 - point.level, curve: i,
        y: 100 * (point.top1 - (change ? curve.dense : 0)), level: String(point.level),
        accuracy: `${percent(point.top1, 1)} %`, last: point.level === 0.99 })));
      const all = [...points, ...theirs];
      if (!all.length) return "Nothing to hold against: no dense network of the same kind.";
      const values = distinct(all.map((point) => +point.kept.toPrecision(6)));
      const x = { field: "kept", type: "quantitative",
        title: "level: share of the maskable weights removed",
        scale: { type: "log", reverse: true, nice: false, padding: 22 },
        axis: { values, labelExpr: "format(1 - datum.value, '.3~g')", grid: true } };
      const domain = span([...points, ...flats].flatMap((p) => [p.y - p.e, p.y + p.e])
        .concat(theirs.map((p) => p.y)));
      const y = { field: "y", type: "quantitative", scale: { domain, nice: false, zero: false },
        title: change ? "points against the dense network" : "top-1 on test, %" };
      const colour = { field: "colour", type: "nominal", scale: null };
      const tips = tooltip("name", "level", "accuracy");
      const layer = [
        { data: { values: flats }, mark: { type: "rule", strokeWidth: 2, strokeDash: [6, 4] },
          encoding: { y, color: colour, tooltip: tips } },
        { data: { values: flats }, mark: { type: "text", align: "left", dy: -7, fontSize: 11 },
          encoding: { y, x: { value: 6 }, text: { field: "name" }, color: colour } },
        { data: { values: theirs }, mark: { type: "line", color: "var(--muted)",
          strokeDash: [2, 3], strokeWidth: 1.6 }, encoding: { x, y, detail: { field: "curve" } } },
        { data: { values: theirs }, mark: { type: "point", color: "var(--muted)", size: 45 },
          encoding: { x, y, tooltip: tips } },
        { data: { values: theirs.filter((p) => p.last) }, mark: { type: "text", align: "right",
          dy: -9, fontSize: 11, fill: "var(--soft)" }, encoding: { x, y, text: { field: "name" } } },
        { data: { values: points }, mark: { type: "line", strokeWidth: 2 },
          encoding: { x, y, color: colour, detail: { field: "name" } } },
        { data: { values: points }, mark: { type: "rule", opacity: 0.6 },
          transform: [{ calculate: "datum.y - datum.e", as: "low" },
            { calculate: "datum.y + datum.e", as: "high" }],
          encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" }, color: colour } },
        { data: { values: points }, mark: { type: "point", filled: true, size: 70, opacity: 1 },
          encoding: { x, y, color: colour, tooltip: tips } },
      ];
      const elsewhere = theirs.length && !same.includes(state.place);
      return { spec: { layer, width, height: 360 },
        legend: groups.map((name) => ({ name: name || "networks", key: name,
          colour: colours.get(name) })),
        note: `Bars: ${data.bars}. Dashed: dense networks, and all levels together.`
          + (theirs.length ? " Dotted, grey: published figures of the sparse study, which chose on"
            + " test and gives no errors." : "")
          + (elsewhere && !change ? " They are of another data set: only their shape is to be"
            + " compared." : "") };
    },
  };
})();

/* ---- hyperparameters ---- */
(function searched() {
  const data = page.data("searched");
  if (!data || !data.parameters.length) return;
  const trials = data.rows.map((row, i) => ({ number: i, trial: row[0], cell: row[1],
    status: row[2], selection: row[3], epochs: row[4], values: row.slice(5) }));
  const cells = distinct(trials.map((trial) => trial.cell));
  const end_of = (name) => name.split(".").slice(1).join(".") || name;
  const short = (name) => data.parameters.filter((each) => end_of(each) === end_of(name)).length > 1
    ? name : end_of(name);
  charts.parallel = {
    controls: {
      cell: ["Cell", [...cells.map((cell) => [cell, cell]),
        ...(cells.length > 1 ? [["", "all cells"]] : [])]],
      best: ["Trials", [["1", "all"], ["0.25", "best quarter"], ["0.1", "best tenth"]]],
      ended: ["Ended", [["", "finished or stopped early"], ["finished", "finished"]]],
    },
    spec(state, width) {
      let own = trials.filter((trial) => known(trial.selection)
        && (!state.cell || trial.cell === state.cell)
        && (!state.ended || trial.status === state.ended));
      own.sort((a, b) => b.selection - a.selection);
      own = own.slice(0, Math.max(1, Math.ceil(own.length * Number(state.best))));
      if (!own.length) return "No trial has an accuracy yet.";
      const dimensions = data.parameters.map((name, i) => axis_of(short(name),
        own.map((trial) => trial.values[i])))
        .filter((axis) => axis.size > 1 || own.length === 1);
      dimensions.push(axis_of("selection top-1, %", own.map((trial) => 100 * trial.selection)));
      const names = dimensions.map((axis) => axis.name);
      const [low, high] = [own.at(-1).selection, own[0].selection];
      const lines = own.map((trial, i) => [trial, i]).reverse().flatMap(([trial, i]) => {
        const share = high > low ? (trial.selection - low) / (high - low) : 1;
        const strong = Math.round(100 * share ** 2);
        return dimensions.map((axis) => ({ dimension: axis.name, y: axis.place(i), line: i,
          trial: trial.trial, ended: trial.status + (trial.epochs ? `, ${trial.epochs} epochs` : ""),
          accuracy: `${percent(trial.selection)} %`,
          value: `${axis.name} ${axis.words(i)}`, order: own.length - i, strong,
          colour: `color-mix(in oklab, var(--accent) ${strong}%, var(--muted))` }))
          .filter((point) => known(point.y));
      });
      const ticks = dimensions.flatMap((axis) => axis.ticks.map(([y, words]) =>
        ({ dimension: axis.name, y, words })));
      const room = Math.max(width, 96 * names.length);
      const x = { field: "dimension", type: "nominal", sort: names, title: null,
        scale: { type: "point", padding: 0.45 },
        axis: { orient: "top", labelAngle: 0, labelFontSize: 11.5, labelColor: "var(--ink)",
          domain: false, ticks: false, grid: true, gridColor: "var(--line)",
          labelLimit: room / names.length - 6 } };
      const y = { field: "y", type: "quantitative", axis: null, scale: { domain: [-0.04, 1.04] } };
      const opacity = own.length > 200 ? 0.35 : own.length > 60 ? 0.5 : 0.75;
      return { spec: { width: room, height: 340, layer: [
        { data: { values: lines }, mark: { type: "line", strokeWidth: own.length > 200 ? 1 : 1.6,
          opacity, strokeJoin: "round" },
        encoding: { x, y, detail: { field: "order", type: "quantitative" },
          color: { field: "colour", type: "nominal", scale: null } } },
        { data: { values: lines }, mark: { type: "point", filled: true, size: 26, opacity: 0.9 },
          encoding: { x, y, color: { field: "colour", type: "nominal", scale: null },
            tooltip: tooltip("trial", "accuracy", "value", "ended") } },
        ...[{ stroke: "var(--card)", strokeWidth: 4 }, { fill: "var(--ink)" }].map((style) => ({
          data: { values: ticks }, mark: { type: "text", align: "left", dx: 7, fontSize: 10.5,
            ...style }, encoding: { x, y, text: { field: "words" } } })),
      ] }, legend: [], note: `${own.length} trials; the bluer, the better on the selection clips.`
        + (own.some((trial) => trial.status !== "finished")
          ? " Trials that were stopped early stand where they were stopped." : "") };
    },
  };

  /* One axis: where each of the values lies between 0 and 1, and its ticks. */
  function axis_of(name, values) {
    const present = values.filter((value) => value != null);
    const kinds = distinct(present);
    const numeric = present.length > 0 && present.every((value) => typeof value === "number");
    if (numeric && kinds.length > 4) {
      const [low, high] = [Math.min(...present), Math.max(...present)];
      const log = low > 0 && high / low > 30;
      const at = (value) => (high === low ? 0.5 : log ? Math.log(value / low) / Math.log(high / low)
        : (value - low) / (high - low));
      const steps = [0, 0.25, 0.5, 0.75, 1].map((share) => [share,
        amount(+(log ? low * (high / low) ** share : low + (high - low) * share).toPrecision(3))]);
      return { name, size: kinds.length, ticks: steps,
        place: (i) => (values[i] == null ? null : at(values[i])), words: (i) => amount(values[i]) };
    }
    const sorted = numeric ? kinds.sort((a, b) => a - b) : kinds.sort();
    const at = new Map(sorted.map((value, i) => [value,
      sorted.length > 1 ? i / (sorted.length - 1) : 0.5]));
    return { name, size: kinds.length, ticks: sorted.map((value) => [at.get(value), String(value)]),
      place: (i) => at.get(values[i]) ?? null, words: (i) => String(values[i]) };
  }

  const importances = page.data("importances") || {};
  const known_cells = Object.keys(importances);
  if (known_cells.length) {
    charts.importances = {
      controls: { cell: ["Cell", known_cells.map((cell) => [cell, cell || "all cells"])
        .sort((a, b) => (a[0] !== "") - (b[0] !== ""))] },
      spec(state, width) {
        const lines = importances[state.cell].map((line) => ({ ...line,
          name: short(line.parameter), part: `${percent(line.share, 1)} %`,
          by_chance: `up to ${percent(line.chance, 1)} %`,
          colour: line.share > line.chance ? "var(--accent)" : "var(--muted)" }));
        const x = { type: "quantitative", title: "part of the differences in accuracy",
          axis: { format: "%", tickCount: 5 }, scale: { domainMin: 0 } };
        const y = { field: "name", type: "nominal", title: null,
          sort: lines.map((line) => line.name), axis: { labelColor: "var(--ink)" } };
        const tips = tooltip("parameter", "part", "by_chance");
        return { spec: { data: { values: lines }, width, height: 30 * lines.length + 50,
          layer: [
            { mark: { type: "bar", cornerRadiusEnd: 3, height: 15 }, encoding: { y,
              x: { ...x, field: "share" }, color: { field: "colour", type: "nominal", scale: null },
              tooltip: tips } },
            { mark: { type: "tick", thickness: 2, size: 20, color: "var(--ink)" },
              encoding: { y, x: { ...x, field: "chance" }, tooltip: tips } },
          ] }, legend: [], note: `${lines[0].trials} finished trials; each parameter by itself.`
            + " Black mark: what chance alone stays below 19 times of 20; a grey bar does not"
            + " reach it." };
      },
    };
  }
})();

/* ---- learning curves ---- */
(function learning() {
  const data = page.data("searched"), curves = page.data("curves");
  if (!data || !curves || !Object.keys(curves).length) return;
  const most = 120;
  const trials = data.rows.map((row, i) => ({ trial: row[0], cell: row[1], status: row[2],
    selection: row[3], epochs: row[4], curve: curves[i] })).filter((trial) => trial.curve);
  const cells = distinct(trials.map((trial) => trial.cell));
  const has = (name) => trials.some((trial) => trial.curve[name].length);
  const metrics = [["selection", "top-1 on the selection clips"], ["loss", "training loss"]]
    .filter(([name]) => has(name));
  if (!metrics.length) return;
  charts.learning = {
    controls: {
      cell: ["Cell", [...cells.map((cell) => [cell, cell]),
        ...(cells.length > 1 ? [["", "all cells"]] : [])]],
      metric: ["Curve", metrics],
      ended: ["Trials", [["", "all"], ["finished", "finished"], ["pruned", "stopped early"]]],
    },
    spec(state, width) {
      const matching = trials.filter((trial) => (!state.cell || trial.cell === state.cell)
        && (!state.ended || trial.status === state.ended) && trial.curve[state.metric].length);
      const own = matching.sort((a, b) => (b.selection ?? -1) - (a.selection ?? -1)).slice(0, most);
      if (!own.length) return "No such curve.";
      const scale = state.metric === "selection" ? 100 : 1;
      const style = { finished: "var(--accent)", pruned: "var(--c1)" };
      const lines = own.map((trial, i) => [trial, i]).reverse().flatMap(([trial, i]) =>
        trial.curve.epochs.map((epoch, k) => ({
          epoch, y: trial.curve[state.metric][k] == null ? null
            : trial.curve[state.metric][k] / scale, trial: trial.trial, line: own.length - i,
          ended: trial.status === "pruned" ? `stopped after ${trial.epochs} epochs` : trial.status,
          colour: i === 0 && trial.status === "finished" ? "var(--ink)"
            : style[trial.status] ?? "var(--muted)", last: k === trial.curve.epochs.length - 1,
          pruned: trial.status === "pruned", strong: i === 0 })));
      for (const line of lines) line.value = line.y == null ? "n/a"
        : state.metric === "selection" ? `${line.y.toFixed(2)} %` : line.y.toPrecision(4);
      const rungs = distinct(own.filter((trial) => trial.status === "pruned" && trial.epochs)
        .map((trial) => trial.epochs)).map((epoch) => ({ epoch, at: `stopped here: ${
        own.filter((trial) => trial.status === "pruned" && trial.epochs === epoch).length}` }));
      const x = { field: "epoch", type: "quantitative", title: "epoch",
        scale: { nice: false, zero: false }, axis: { tickMinStep: 1, format: "d" } };
      const y = { field: "y", type: "quantitative", scale: { zero: false },
        title: state.metric === "selection" ? "top-1 on the selection clips, %" : "training loss, nats" };
      const colour = { field: "colour", type: "nominal", scale: null };
      const tips = tooltip("trial", "epoch", "value", "ended");
      const layer = [
        { data: { values: rungs }, mark: { type: "rule", strokeDash: [3, 4], color: "var(--muted)" },
          encoding: { x, tooltip: tooltip("at") } },
        { data: { values: lines }, mark: { type: "line", opacity: own.length > 30 ? 0.5 : 0.8 },
          encoding: { x, y, color: colour, detail: { field: "line", type: "quantitative" },
            strokeWidth: { condition: { test: "datum.strong", value: 2.6 }, value: 1.3 } } },
        { data: { values: lines.filter((line) => line.pruned && line.last) },
          mark: { type: "point", shape: "cross", filled: true, size: 50 },
          encoding: { x, y, color: colour, tooltip: tips } },
        { data: { values: lines }, mark: { type: "point", size: 60, opacity: 0 },
          encoding: { x, y, tooltip: tips } },
      ];
      const statuses = distinct(own.map((trial) => trial.status));
      return { spec: { layer, width, height: 340 },
        legend: statuses.map((name) => ({ name: name === "pruned" ? "stopped early" : name,
          colour: style[name] ?? "var(--muted)", fixed: true })),
        note: `${own.length} of ${matching.length} trials${own.length < matching.length
          ? ", the best ones" : ""}. Thick: the best finished one. Crosses and dashed lines: where`
          + " trials were stopped early. These are selection figures." };
    },
  };
})();

/* ---- how the best figure came about ---- */
(function progress() {
  const data = page.data("progress");
  if (!data || data.length < 2) return;
  charts.progress = {
    controls: {},
    spec(state, width) {
      let best = 0;
      const points = data.map(([hours, trial, top1]) => {
        best = Math.max(best, top1);
        return { hours, trial, y: 100 * top1, best: 100 * best, accuracy: `${percent(top1)} %`,
          at: `${hours.toPrecision(3)} h` };
      });
      const x = { field: "hours", type: "quantitative", title: "hours the sweep ran",
        scale: { nice: false }, axis: { tickCount: width < 500 ? 4 : 8 } };
      const y = { type: "quantitative", title: "top-1 on the selection clips, %",
        scale: { zero: false } };
      return { spec: { data: { values: points }, width, height: 240, layer: [
        { mark: { type: "point", filled: true, size: 36, opacity: 0.5, color: "var(--c0)" },
          encoding: { x, y: { ...y, field: "y" }, tooltip: tooltip("trial", "accuracy", "at") } },
        { mark: { type: "line", interpolate: "step-after", color: "var(--ink)" },
          encoding: { x, y: { ...y, field: "best" } } },
      ] }, legend: [], note: "Every finished trial of every cell; the line is the best so far. Of"
        + " many tries the best one looks better than it is." };
    },
  };
})();

/* ---- how sure ---- */
(function reliability() {
  const data = page.data("reliability");
  if (!data || !data.length) return;
  charts.reliability = {
    controls: { name: ["Network or ensemble", data.map((each) => [each.name, each.name])] },
    spec(state, width) {
      const found = data.find((each) => each.name === state.name);
      const z = 1.96;
      const bins = found.bins.map(([confidence, right, clips]) => {
        const scale = 1 + z * z / clips, middle = (right + z * z / (2 * clips)) / scale;
        const half = z * Math.sqrt(right * (1 - right) / clips + (z / (2 * clips)) ** 2) / scale;
        return { x: confidence, y: right, low: middle - half, high: middle + half, clips,
          confidence: `${percent(confidence, 1)} %`, right: `${percent(right, 1)} %` };
      });
      const side = Math.min(width, 420);
      const axis = { format: "%" };
      const x = { field: "x", type: "quantitative", title: "how sure it is", axis,
        scale: { domain: [0, 1] } };
      const y = { field: "y", type: "quantitative", title: "how often it is right", axis,
        scale: { domain: [0, 1] } };
      return { spec: { data: { values: bins }, width: side, height: side * 0.8, layer: [
        { data: { values: [{ x: 0, y: 0 }, { x: 1, y: 1 }] }, mark: { type: "line",
          color: "var(--muted)", strokeDash: [4, 3] }, encoding: { x, y } },
        { mark: { type: "rule", color: "var(--accent)", opacity: 0.5 },
          encoding: { x, y: { ...y, field: "low" }, y2: { field: "high" } } },
        { mark: { type: "point", filled: true, color: "var(--accent)", opacity: 1 },
          encoding: { x, y, size: { field: "clips", type: "quantitative", legend: null,
            scale: { range: [25, 260] } }, tooltip: tooltip("confidence", "right", "clips") } },
      ] }, legend: [], note: `ECE ${percent(found.ece)} % (a perfectly calibrated one would have`
        + ` ${percent(found.by_chance)} % by chance). Bars: 95 % (Wilson); the area of a point grows`
        + " with its clips. Below the line: surer than right." };
    },
  };
})();

/* ---- classes ---- */
(function confusion() {
  const data = page.data("classes");
  if (!data) return;
  const by_name = new Map(data.members.map((member) => [member.name, member]));
  const names = data.members.map((member) => [member.name, member.name]);
  function matrix(member) {
    const classes = data.classes[member.of], k = classes.length;
    const totals = Array(k).fill(0), cells = [];
    for (let i = 0; i < member.cells.length; i += 2) {
      const [row, column, clips] = [Math.floor(member.cells[i] / k), member.cells[i] % k,
        member.cells[i + 1]];
      totals[row] += clips;
      cells.push({ row, column, clips });
    }
    return { classes, totals, cells };
  }
  charts.confusion = {
    controls: { name: ["Network or ensemble", names],
      against: ["Table: beside", [["", "nothing"], ...names]],
      cells: ["Matrix", [["all", "all clips"], ["wrong", "only mistakes"]]] },
    spec(state, width) {
      const { classes, totals, cells } = matrix(by_name.get(state.name));
      per_class(state);
      const used = classes.map((_, i) => totals[i] > 0 || cells.some((cell) => cell.column === i));
      const order = classes.map((name, i) => `${i}`).filter((i) => used[i]);
      const shown = cells.filter((cell) => state.cells === "all" || cell.row !== cell.column)
        .map((cell) => ({ r: `${cell.row}`, c: `${cell.column}`, clips: cell.clips,
          share: cell.clips / totals[cell.row], right: cell.row === cell.column,
          is: classes[cell.row], "taken for": classes[cell.column],
          of: `${cell.clips} of ${totals[cell.row]} clips` }));
      if (!shown.length) return "It makes no mistake.";
      const cell = Math.max(9, Math.min(38, (width - 150) / order.length));
      const labels = { domain: false, ticks: false, labelOverlap: cell < 12, labelLimit: 140,
        labelExpr: `data_classes[datum.value]`, labelFontSize: cell < 14 ? 8.5 : 11 };
      const x = { field: "c", type: "ordinal", sort: order, title: "taken for",
        scale: { domain: order, paddingInner: 0.04 }, axis: { ...labels, labelAngle: -50 } };
      const y = { field: "r", type: "ordinal", sort: order, title: "is",
        scale: { domain: order, paddingInner: 0.04 }, axis: labels };
      const layer = [
        { mark: { type: "rect", cornerRadius: 1 }, encoding: { x, y,
          color: { condition: { test: "datum.right", value: "var(--accent)" }, value: "var(--bad)" },
          opacity: { field: "share", type: "quantitative", legend: null,
            scale: { domain: [0, state.cells === "all" ? 1 : 0.5], range: [0.15, 1], clamp: true } },
          tooltip: tooltip("is", "taken for", "of") } }];
      if (cell >= 20) layer.push({ mark: { type: "text", fontSize: 10.5 }, encoding: { x, y,
        text: { field: "clips" },
        color: { condition: { test: "datum.right && datum.share > 0.5", value: "var(--card)" },
          value: "var(--ink)" } } });
      return { spec: { data: { values: shown }, layer, width: cell * order.length,
        height: cell * order.length, autosize: "pad",
        params: [{ name: "data_classes", value: classes }] }, legend: [],
      note: "On the test clips, from the final evaluation; the stronger, the more clips of the class."
        + (data.left_out ? ` ${data.left_out} more networks are in tables/confusion.csv.` : "") };
    },
  };

  function per_class(state) {
    const holder = document.getElementById("per-class");
    const of = (name) => {
      const { classes, totals, cells } = matrix(by_name.get(name));
      return classes.map((title, i) => {
        const wrong = cells.filter((cell) => cell.row === i && cell.column !== i)
          .sort((a, b) => b.clips - a.clips)[0];
        const right = cells.find((cell) => cell.row === i && cell.column === i)?.clips ?? 0;
        return { title, clips: totals[i], right, accuracy: right / totals[i],
          wrong: wrong ? `${classes[wrong.column]} (${wrong.clips})` : "" };
      });
    };
    const own = of(state.name);
    const same = state.against
      && by_name.get(state.against).of === by_name.get(state.name).of;
    const other = same ? of(state.against) : null;
    const error = (row) => Math.sqrt(row.accuracy * (1 - row.accuracy) / row.clips);
    const heads = [["class", ""], ["clips", "number"], ["right %", "number"],
      ...(other ? [["beside %", "number"], ["difference", "number"]] : []),
      ["most often taken for", ""]];
    const rows = own.map((row, i) => [row, i]).filter(([row]) => row.clips)
      .sort((a, b) => a[0].accuracy - b[0].accuracy).map(([row, i]) => [row.title, row.clips,
        `${percent(row.accuracy, 1)} ± ${percent(error(row), 1)}`,
        ...(other ? [percent(other[i].accuracy, 1),
          (100 * (row.accuracy - other[i].accuracy)).toFixed(1)] : []), row.wrong]);
    const cell = (tag, content, kind) => page.make(tag, { className: kind, textContent: content });
    const head = heads.map(([title, kind]) => {
      const made = cell("th", "", kind);
      made.scope = "col";
      made.append(page.make("button", { type: "button", textContent: title }));
      return made;
    });
    const body = rows.map((row) => page.make("tr", {},
      ...row.map((content, i) => cell("td", String(content), heads[i][1]))));
    const box = page.make("div", { className: "table" },
      page.make("div", { className: "scroll" }, page.make("table", {},
        page.make("thead", {}, page.make("tr", {}, ...head)), page.make("tbody", {}, ...body))));
    box.dataset.shown = "25";
    holder.replaceChildren(box);
    page.table(box);
  }
})();

/* ---- drawing ---- */
(function draw_all() {
  const figures = [...document.querySelectorAll("figure[data-chart]")];
  const waiting = new Set();
  for (const figure of figures) {
    const chart = charts[figure.dataset.chart];
    if (!chart) { figure.hidden = true; continue; }
    set_up(figure, chart);
  }
  function set_up(figure, chart) {
    const name = figure.dataset.chart, state = { hidden: new Set() };
    const controls = page.make("div", { className: "controls" });
    for (const [key, [title, options]] of Object.entries(chart.controls)) {
      if (!options.length) continue;
      const select = page.make("select", {}, ...options.map(([value, words]) =>
        page.make("option", { value, textContent: words })));
      const before = page.kept(`${name}.${key}`);
      if (before !== null && options.some(([value]) => value === before)) select.value = before;
      state[key] = select.value;
      select.dataset.control = key;
      select.addEventListener("change", () => {
        state[key] = select.value;
        page.keep(`${name}.${key}`, select.value);
        draw();
      });
      if (options.length > 1) controls.append(page.make("label", {}, title, select));
    }
    const plot = page.make("div", { className: "plot" });
    const legend = page.make("div", { className: "legend" });
    const note = page.make("figcaption");
    figure.prepend(controls, legend, plot);
    figure.append(note);
    let view = null, width = 0, turn = 0;
    async function draw() {
      waiting.delete(draw);
      const mine = ++turn;
      width = plot.clientWidth;
      const found = chart.spec(state, Math.max(200, width - 10));
      tip.hidden = true;
      if (typeof found === "string") {
        view?.finalize(); view = null;
        plot.replaceChildren(page.make("p", { textContent: found }));
        legend.replaceChildren(); note.textContent = "";
        figure.dataset.drawn = "empty";
        return;
      }
      const holder = page.make("div");
      /* a layer without data has no extent, of which Vega warns */
      found.spec.layer = found.spec.layer.filter((layer) => layer.data?.values?.length !== 0);
      const made = await vegaEmbed(holder, { autosize: { type: "fit", contains: "padding" },
        ...found.spec, config }, { renderer: "svg", actions: false, tooltip: show_tip });
      if (mine !== turn) { made.view.finalize(); return; }
      view?.finalize();
      view = made.view;
      plot.replaceChildren(holder);
      note.textContent = found.note;
      legend.replaceChildren(...found.legend.map((each) => entry(each)));
      legend.hidden = found.legend.length < 2 && !found.legend.some((each) => each.fixed);
      figure.dataset.drawn = "yes";
    }
    function entry({ name: words, key = words, colour, fixed = false }) {
      const swatch = page.make("i");
      swatch.style.background = colour;
      const made = page.make(fixed ? "span" : "button", {}, swatch, words);
      if (!fixed) {
        made.type = "button";
        made.setAttribute("aria-pressed", String(!state.hidden.has(key)));
        made.addEventListener("click", () => {
          if (!state.hidden.delete(key)) state.hidden.add(key);
          draw();
        });
      }
      return made;
    }
    waiting.add(draw);
    new IntersectionObserver((entries, observer) => {
      if (!entries.some((each) => each.isIntersecting)) return;
      observer.disconnect();
      if (waiting.has(draw)) draw();
    }, { rootMargin: "300px" }).observe(figure);
    let timer = 0;
    new ResizeObserver(() => {
      clearTimeout(timer);
      timer = setTimeout(() => { if (width && plot.clientWidth !== width) draw(); }, 150);
    }).observe(plot);
  }
  /* What was not scrolled to is drawn when there is time, so that a printed page has it. */
  const idle = window.requestIdleCallback ?? ((call) => setTimeout(call, 200));
  const next = () => idle(async () => {
    const [draw] = waiting;
    if (draw) { next(await draw().catch(console.error)); } else document.documentElement.dataset.drawn = "all";
  });
  addEventListener("load", next);
})();
