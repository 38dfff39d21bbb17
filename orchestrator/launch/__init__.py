"""What a cluster is asked for: described, rendered to text, submitted with the site's own client.

Knows no Ray and no trial: what is submitted ends in `orchestrate sweep FILE`, which continues.
"""
