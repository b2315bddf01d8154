//! Empty tensors, odd biases, clashing names, replaced builders, transforms and pulses.
