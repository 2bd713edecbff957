//! What the order of summation costs in exactness.
