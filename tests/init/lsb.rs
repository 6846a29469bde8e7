//! The LSB init script.
