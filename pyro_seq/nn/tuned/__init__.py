"""Kernels that stand in for torch's own on a processor, tuned to torch 2.13; other devices always run torch's.

``python -m benchmarks.convolutions`` is what they are kept for: it sets each beside torch's layer, and a training step
of SRVP beside the same step without them. Measured with torch 2.13.0 on an Intel Xeon with AVX-512 and AMX, one thread,
16 clips of 15 frames. A kernel whose gain is gone with a later version should go as well.

* `columns`: strided convolutions of small maps of many channels as matrix products. At 64 x 64, the paper's size, a
  layer is 1.2 times as fast in single precision and 2.4 times in bfloat16, a whole step 1.1 and 1.3 times. Narrower
  maps, as in the example of 32 x 32, are left to torch, which is twice as fast there.
* `batch_norm`: normalisation and leaky rectifier of images with their channels last, without the digits that torch
  loses there: 3e-7 from double precision, where torch is up to 1e-3 away. With torch's own a step takes 1.01 times as
  long at 64 x 64 and 0.92 times at 32 x 32; with torch's in the layout that loses none, 1.22 and 1.13 times. In half
  precision torch's own is taken.
"""
