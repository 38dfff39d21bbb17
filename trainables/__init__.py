"""One trial of a skeleton-action network: data, model, masks, training, deploy form, scores."""
