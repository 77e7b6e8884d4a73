"""What autoseg does on a GPU, beside nnU-Net v2, in nine minutes on a bare machine.

    python -m benchmarks.gpu.pack FOLDER DATASET            # anywhere with a network
    python -m benchmarks.gpu --out DIR --pack FOLDER        # on the machine with the GPU

`table` lists the parts, each a module of that name with `measure(bench)`; `part` runs one of them
in a process of its own; `plans` makes the networks, `peer` runs nnU-Net's.
"""
