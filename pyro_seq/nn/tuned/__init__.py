"""CPU kernels that replace torch's own, tuned to torch 2.13; other devices always use torch's.

``python -m benchmarks.convolutions`` shows whether they are still worthwhile: it compares each with torch's layer, and
a training step of SRVP with and without them. Measured with torch 2.13.0 on an Intel Xeon with AVX-512 and AMX, one
thread, 16 clips of 15 frames. A kernel that brings no gain with a later version should be removed.

* `columns`: strided convolutions of small maps of many channels as matrix products. At 64 x 64, the paper's size, a
  layer is 1.2 times as fast in single precision and 2.4 times in bfloat16, a whole step 1.1 and 1.3 times. Maps with
  fewer channels, as in the 32 x 32 example, are left to torch, which is twice as fast there.
* `batch_norm`: normalisation and leaky rectifier of channels-last images, without torch's loss of precision there: the
  error against double precision is 3e-7, but up to 1e-3 in torch. With torch's kernel a step takes 1.01 times as long
  at 64 x 64 and 0.92 times at 32 x 32; with torch's kernel in the layout without that loss, 1.22 and 1.13 times. In
  half precision torch's kernel is used.
"""
