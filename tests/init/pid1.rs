//! The keeper as PID 1 of a container.
