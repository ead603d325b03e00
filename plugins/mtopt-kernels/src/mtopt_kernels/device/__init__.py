"""What kernels are made of: functions that run inside a program on the GPU."""
