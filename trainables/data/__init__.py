"""Recordings on disk and how they become batches: readers, store, protocols, audit, streams,
transforms, synthetic clips.
"""
