"""Back ends: from IntGraph to generated projects, and their simulation."""
