"""The modules whose tests are tested, and which tests should notice a change of each."""

CORE: dict[str, tuple[str, ...]] = {  # module -> the tests that should notice a change of it
    "orchestrator/trials/cells.py": ("orchestrator/trials/test_cells.py",),
    "orchestrator/trials/space.py": (
        "orchestrator/trials/test_space.py",
        "orchestrator/trials/test_random_draws.py",
        "orchestrator/trials/test_settings.py",
        "orchestrator/trials/test_trials.py",
        "orchestrator/trials/test_value_at.py",
        "orchestrator/record/test_extending.py",
    ),
    "orchestrator/sweep/constraints.py": (
        "orchestrator/sweep/test_constraints.py",
        "orchestrator/trials/test_space.py",
    ),
    "orchestrator/sweep/leaves.py": (
        "orchestrator/sweep/test_leaves.py",
        "orchestrator/sweep/test_sweep.py",
        "orchestrator/trials/test_space.py",
    ),
    "orchestrator/record/choice.py": (
        "orchestrator/record/test_retention.py",
        "orchestrator/ensembling/test_collect.py",
    ),
    "orchestrator/record/lease.py": ("orchestrator/record/test_lease.py",),
    "orchestrator/record/past.py": (
        "orchestrator/record/test_past.py",
        "orchestrator/tuning/test_run_asked.py",
    ),
    "orchestrator/record/processes.py": ("orchestrator/record/test_lease.py",),
    "orchestrator/record/retention.py": (
        "orchestrator/record/test_retention.py",
        "orchestrator/tuning/test_retaining.py",
    ),
    "orchestrator/record/times.py": (
        "orchestrator/record/test_times.py",
        "orchestrator/planning/test_calibration.py",
    ),
    "orchestrator/record/commands.py": (
        "orchestrator/record/test_commands.py",
        "orchestrator/record/test_status.py",
    ),
    "orchestrator/record/folder.py": (
        "orchestrator/record/test_folder.py",
        "orchestrator/record/test_opening.py",
        "orchestrator/record/test_extending.py",
    ),
    "orchestrator/record/networks.py": ("orchestrator/record/test_networks.py",),
    "orchestrator/record/resolved.py": ("orchestrator/record/test_folder.py",),
    "orchestrator/record/stop_requests.py": ("orchestrator/record/test_stop_requests.py",),
    "orchestrator/record/journal.py": ("orchestrator/record/test_journal.py",),
    "orchestrator/record/proposals.py": (
        "orchestrator/record/test_folder.py",
        "orchestrator/record/test_version_0_2.py",
    ),
    "orchestrator/record/states.py": (
        "orchestrator/record/test_states.py",
        "orchestrator/record/test_version_0_2.py",
    ),
    "orchestrator/record/status.py": ("orchestrator/record/test_status.py",),
    "orchestrator/record/running.py": ("orchestrator/record/test_running.py",),
    "orchestrator/record/forecasts.py": ("orchestrator/record/test_forecasts.py",),
    "orchestrator/planning/calibration.py": ("orchestrator/planning/test_calibration.py",),
    "orchestrator/planning/device_shares.py": ("orchestrator/planning/test_device_shares.py",),
    "orchestrator/planning/pace.py": ("orchestrator/planning/test_pace.py",),
    "orchestrator/planning/schedule.py": ("orchestrator/planning/test_schedule.py",),
    "orchestrator/tuning/remaining.py": (
        "orchestrator/tuning/test_remaining.py",
        "orchestrator/planning/test_remaining_of_a_sweep.py",
    ),
    "orchestrator/tuning/shares.py": ("orchestrator/tuning/test_shares.py",),
    "orchestrator/tuning/callbacks.py": (
        "orchestrator/tuning/test_callbacks.py",
        "orchestrator/tuning/test_callbacks_of_costs.py",
        "orchestrator/tuning/test_run.py",
    ),
    "orchestrator/tuning/cluster.py": ("orchestrator/tuning/test_cluster.py",),
    "orchestrator/tuning/progress.py": ("orchestrator/tuning/test_progress.py",),
    "orchestrator/tuning/run.py": (
        "orchestrator/tuning/test_run.py",
        "orchestrator/tuning/test_run_around.py",
        "orchestrator/tuning/test_run_asked.py",
    ),
    "orchestrator/record/epochs.py": (
        "orchestrator/record/test_epochs.py",
        "orchestrator/tuning/test_early.py",
    ),
    "orchestrator/planning/stopping.py": ("orchestrator/planning/test_stopping.py",),
    **{
        f"orchestrator/search/{name}.py": (
            "orchestrator/search/test_one_by_one.py",
            "orchestrator/search/test_listed.py",
            "orchestrator/search/test_qmc.py",
            "orchestrator/record/test_warm_start.py",
        )
        for name in ("listed", "making", "one_by_one", "protocol", "qmc")
    },
    "orchestrator/search/turns.py": (
        "orchestrator/search/test_turns.py",
        "orchestrator/tuning/test_searcher.py",
        "orchestrator/simulation/test_clock.py",
    ),
    "orchestrator/simulation/clock.py": (
        "orchestrator/simulation/test_clock.py",
        "orchestrator/simulation/test_fairness.py",
    ),
    "orchestrator/simulation/compare.py": ("orchestrator/simulation/test_compare.py",),
    "orchestrator/simulation/curves.py": (
        "orchestrator/simulation/test_curves.py",
        "orchestrator/simulation/test_library.py",
    ),
    "orchestrator/simulation/ways.py": ("orchestrator/simulation/test_compare.py",),
    "orchestrator/simulation/library.py": (
        "orchestrator/simulation/test_library.py",
        "orchestrator/simulation/test_compare.py",
    ),
    **{
        f"orchestrator/stopping/{name}.py": (
            "orchestrator/stopping/test_rules.py",
            "orchestrator/stopping/test_ranking.py",
            "orchestrator/stopping/test_judge.py",
            "orchestrator/tuning/test_early.py",
        )
        for name in ("after_epochs", "asha", "course", "judge", "median", "plateau", "ranking")
    },
    "orchestrator/tuning/early.py": ("orchestrator/tuning/test_early.py",),
    "orchestrator/tuning/searcher.py": (
        "orchestrator/tuning/test_searcher.py",
        "orchestrator/tuning/test_sources.py",
    ),
    **{
        f"orchestrator/tuning/{name}.py": (f"orchestrator/tuning/test_{name}.py",)
        for name in ("retaining", "signals", "stalls", "waiting", "workers")
    },
    "orchestrator/ensembling/build.py": (
        "orchestrator/ensembling/test_build.py",
        "orchestrator/ensembling/test_collect.py",
        "orchestrator/ensembling/test_strategies.py",
        "orchestrator/ensembling/test_final.py",
        "orchestrator/ensembling/test_whole_choice.py",
    ),
    "orchestrator/ensembling/budgets.py": (
        "orchestrator/ensembling/test_budgets.py",
        "orchestrator/ensembling/test_build.py",
    ),
    "orchestrator/ensembling/collect.py": (
        "orchestrator/ensembling/test_collect.py",
        "orchestrator/ensembling/test_levels.py",
    ),
    "orchestrator/ensembling/combine.py": (
        "orchestrator/ensembling/test_combine.py",
        "orchestrator/ensembling/test_sums.py",
        "orchestrator/ensembling/test_evaluate.py",
        "orchestrator/ensembling/test_score_files.py",
        "orchestrator/ensembling/test_rows_of_files.py",
    ),
    "orchestrator/ensembling/evaluate.py": (
        "orchestrator/ensembling/test_combine.py",
        "orchestrator/ensembling/test_sums.py",
        "orchestrator/ensembling/test_evaluate.py",
    ),
    "orchestrator/ensembling/final.py": (
        "orchestrator/ensembling/test_final.py",
        "orchestrator/ensembling/test_final_again.py",
    ),
    "orchestrator/ensembling/readers/alignment.py": (
        "orchestrator/ensembling/readers/test_formats.py",
        "orchestrator/ensembling/test_bad_score_files.py",
        "orchestrator/ensembling/test_score_files.py",
        "orchestrator/ensembling/test_rows_of_files.py",
    ),
    "orchestrator/ensembling/readers/tables.py": (
        "orchestrator/ensembling/readers/test_tables.py",
        "orchestrator/ensembling/readers/test_formats.py",
        "orchestrator/ensembling/test_score_files.py",
        "orchestrator/ensembling/test_rows_of_files.py",
    ),
    "orchestrator/ensembling/statistics/calibration.py": (
        "orchestrator/ensembling/statistics/test_calibration.py",
    ),
    "orchestrator/ensembling/statistics/intervals.py": (
        "orchestrator/ensembling/statistics/test_intervals.py",
    ),
    "orchestrator/ensembling/strategies/greedy.py": (
        "orchestrator/ensembling/strategies/test_greedy.py",
    ),
    "orchestrator/ensembling/strategies/simplex.py": (
        "orchestrator/ensembling/strategies/test_fitted.py",
    ),
    "orchestrator/planning/plan.py": (
        "orchestrator/planning/test_plan.py",
        "orchestrator/planning/test_plan_notes.py",
        "orchestrator/planning/test_plan_of_beginnings.py",
        "orchestrator/planning/test_plan_of_memory.py",
        "orchestrator/planning/test_plan_of_sparsity.py",
    ),
    "trainables/contract/config.py": (
        "trainables/contract/test_config.py",
        "trainables/contract/test_beginnings.py",
        "trainables/contract/test_fast.py",
        "trainables/training/test_optimiser.py",
        "trainables/data/batches/test_settings.py",
        "orchestrator/sweep/test_stream_presets.py",
        "orchestrator/sweep/test_model_options.py",
        "orchestrator/trials/test_space.py",
    ),
    "trainables/contract/pickles.py": (
        "trainables/contract/test_pickles.py",
        "trainables/contract/test_pickle_extents.py",
        "trainables/contract/test_tensors.py",
    ),
    "trainables/contract/scores.py": (
        "trainables/contract/test_scores.py",
        "orchestrator/ensembling/test_score_files.py",
        "orchestrator/ensembling/test_rows_of_files.py",
    ),
    "trainables/layouts.py": (
        "trainables/test_layouts.py",
        "trainables/data/batches/test_streams.py",
        "trainables/data/batches/test_pyskl_pipeline.py",
    ),
    "trainables/data/batches/streams.py": ("trainables/data/batches/test_streams.py",),
    "trainables/data/batches/transforms.py": (
        "trainables/data/batches/test_transforms.py",
        "trainables/data/batches/test_batches.py",
        "trainables/data/batches/test_aligned_persons.py",
        "trainables/data/batches/test_pyskl_pipeline.py",
    ),
    "trainables/data/store/protocols.py": (
        "trainables/data/store/test_protocols.py",
        "trainables/data/batches/test_settings.py",
    ),
    "trainables/reparam/kernels.py": (
        "trainables/reparam/test_kernels.py",
        "trainables/reparam/test_rep_tcn.py",
    ),
    "trainables/sparsity/amounts.py": (
        "trainables/sparsity/test_amounts.py",
        "trainables/sparsity/test_masks.py",
        "trainables/sparsity/test_structures.py",
    ),
    "trainables/sparsity/generator.py": (
        "trainables/sparsity/test_generator.py",
        "trainables/sparsity/test_generators.py",
        "trainables/sparsity/test_constant_channels.py",
        "trainables/sparsity/test_sharing.py",
        "trainables/sparsity/test_structures.py",
        "trainables/sparsity/test_exchange.py",
        "trainables/sparsity/test_rewinding.py",
        "trainables/sparsity/test_scored.py",
    ),
    "trainables/sparsity/masks.py": (
        "trainables/sparsity/test_masks.py",
        "trainables/sparsity/test_structures.py",
        "trainables/sparsity/test_exchange.py",
        "trainables/sparsity/test_source.py",
    ),
    "trainables/training/checkpoint.py": (
        "trainables/training/test_checkpoints.py",
        "trainables/training/test_beginning.py",
        "trainables/training/test_loop.py",
    ),
    "trainables/training/evaluate.py": (
        "trainables/training/test_evaluate.py",
        "trainables/training/test_loop.py",
    ),
    "trainables/training/loop.py": (
        "trainables/training/test_loop.py",
        "trainables/training/test_checkpoints.py",
        "trainables/training/test_beginning.py",
        "trainables/training/test_memory.py",
    ),
}
