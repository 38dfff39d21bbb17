"""From clips of a store to batches on the device: streams, transforms, pipelines."""
