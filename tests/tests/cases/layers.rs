//! Kinds of layers: grouped, transposed, of any kernel, weights behind constant operators.
