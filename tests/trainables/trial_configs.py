"""Configurations of small trials."""

from trainables.contract.config import TrialConfig
from trainables.data.store.reading import Store


def config_of(store, level=0.0, **train):
    return TrialConfig.model_validate(
        {
            "data": {
                "store": str(store),
                "protocol": "xsub",
                "frames": 16,
                "selection": {"fraction": 0.3},
            },
            "model": {"backbone": "hpi_gcn_op", "channels": 8, "stages": [1, 1], "groups": 4},
            "sparsity": {"level": level, "warmup": 0.5},
            "train": {
                "epochs": 4,
                "batch_size": 6,
                "lr": 0.05,
                "warmup_epochs": 1,
                "milestones": [3],
                **train,
            },
        }
    )


def build_blocks(store, level):
    from trainables.models.build import build_backbone

    config = config_of(store, level)
    opened = Store.open(store)
    return build_backbone(
        config.model, opened.layout, classes=4, persons=1, stream=config.data.stream_config, seed=0
    ).blocks


def sparse(store, level=0.8, epochs=2, **sparsity):
    config = config_of(store, epochs=epochs, milestones=[]).model_dump(by_alias=True)
    return TrialConfig.model_validate(config | {"sparsity": {"level": level, **sparsity}})
