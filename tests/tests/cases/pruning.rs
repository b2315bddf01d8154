//! What prune finds, cuts and proves.
