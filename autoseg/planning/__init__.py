"""From a fingerprint to a plan, by rules that say why.

Read `plan` and its parts (`grid_plan`, `model_plan` with `network_plan`, whose parts are
`stage_plan`, `box_network_plan` and `one_stage_plan`, `run_plan`); then `decisions`, what rules
decide; `rule` and `rules`, the engine; `facts`, what rules look at; `planner` with
`configuration_planner`, which asks them by way of a `decision_log` and makes `choices` and the
`task_choice`; `search` and `topology`, which fill the memory; `anchor_search`, for networks that
look for boxes, `size_ranges`, for those that look for objects by size, and `query_cells`, for
those of queries; `cost` and `expectation`. `likeness` and `overrides` change plans that are made.
"""
