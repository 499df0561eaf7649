//! The tensor types a GGUF file can name (`enum ggml_type` in ggml.h).

/// A tensor type as the file gives it; any number is allowed, known or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct GgmlType(pub(crate) u32);

/// number, name, weights a block, bytes a block
const TABLE: &[(u32, &str, u64, u64)] = &[
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
];

impl GgmlType {
    fn row(self) -> Option<&'static (u32, &'static str, u64, u64)> {
        TABLE.iter().find(|r| r.0 == self.0)
    }

    /// ggml's name of the type, or its number where it has none.
    pub(crate) fn name(self) -> String {
        self.row().map_or_else(|| format!("type {}", self.0), |r| r.1.to_owned())
    }

    /// Bytes that `elements` weights in rows of `row` take; `None` where the type is unknown, the
    /// row is no whole number of blocks, or the size overflows.
    pub(crate) fn bytes(self, elements: u64, row: u64) -> Option<u64> {
        let &(_, _, block, size) = self.row()?;
        if !row.is_multiple_of(block) {
            return None;
        }
        (elements / block).checked_mul(size)
    }
}
