"""From the scores of members to the scores of ensembles, and their one final evaluation.

Knows neither training nor Ray.
"""
