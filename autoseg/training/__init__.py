"""From prepared cases and a configuration to weights.

Read `trainer`, the loop, in one go; then what it is given (`job`), what feeds it (`batches`,
`sampling`, `reading`; by threads in `prefetch`, by processes in `readers` through memory of `ring`,
on a stream of `lane`, or augmented by `workers`), what it changes (`learner` with `muon`,
`initialization` with `published`, `schedule`), what it tells and keeps (`bookkeeping`,
`metrics_log`, `validation`, `state`, `events`), and how it runs (`choice` of an `execution`,
`distributed`, `measure`, `pace`).
"""
