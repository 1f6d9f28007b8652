//! Reply qualification by patterns (FLOW-61 to FLOW-76).

/// The patterns of one group in file order, compiled. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Patterns {}
