"""From prepared cases and a configuration to weights.

Read `trainer`, the loop, in one go; then what it is given (`job`), what feeds it (`batches`,
`sampling`, `prefetch`, `workers`), what it changes (`learner`, `initialization`, `schedule`), what
it tells and keeps (`bookkeeping`, `metrics_log`, `validation`, `state`, `events`), and how it runs
(`execution`, `distributed`, `measure`).
"""
