"""A card that this machine does not have, so that what runs on CUDA devices can be tested on a CPU.

Tensors say that they are on the card, and their numbers are in the memory of the CPU. As on a card, tensors of two
devices do not mix, kernels take none of the CPU, gradients are made in a thread of their own, and a wait of the host
ends the capture of a graph. Triton's interpreter runs the kernels. What a card computes, and how fast, it cannot tell.
"""
