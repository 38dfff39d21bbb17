"""Stands for Ray Tune."""

from types import SimpleNamespace

from tests.orchestrator.sweep_files import THREE_LEVELS

TEXT = THREE_LEVELS + "tracking: {uri: none}\nresources: {gpus: 0}\n"


class FakeTuner:
    """Stands for Tune: does with the callback and the searcher what a test wants."""

    def __init__(self, trainable, tune_config, run_config):
        self.searcher = tune_config.search_alg
        self.callback = run_config.callbacks[0]
        self.stopper = run_config.stop

    def start(self, number=0):
        """Start the next trial; returns it as Tune knows it."""
        config = self.searcher.suggest(f"t{number}")
        trial = SimpleNamespace(
            trial_id=f"t{number}",
            config=config,
            last_result={},
            pickled_error_file=None,
            temporary_state=SimpleNamespace(ray_actor=None),
        )
        self.tell("start", trial)
        return trial

    def tell(self, event, trial, *arguments):
        getattr(self.callback, f"on_trial_{event}")(0, [], trial, *arguments)

    def fit(self):
        raise NotImplementedError


def fail(tuner, trial, reason="train_loss must be finite"):
    trial.last_result = {"failed": reason}
    tuner.tell("complete", trial)
