"""What is made of a finished mask: a corrected one, and the objects in it, counted one by one.

Read `steps`, which correct masks, and `recipe`, which says with what models; then `instances`,
where `touching` takes apart those that share faces by their shape, `valleys` by a learned depth,
`flows` by learned ways, both after `smoothing`, and `extent` measures how far they reach.
`quality` says what Dice to expect of a mask, and `sureness` how sure one may be of an object.
"""
