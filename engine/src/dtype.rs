//! Number formats of weights and of the key-value cache.

/// Values that share one scale in the quantized formats, for weights and activations alike.
pub const GROUP: usize = 32;

/// Format of one weight tensor. The value is the byte stored in a board image.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// IEEE binary32; takes f32 activations.
    F32 = 0,
    /// IEEE binary16; takes f32 activations.
    F16 = 1,
    /// Signed 8-bit with an f16 scale a group of 32; takes int8 activations.
    Q8_0 = 2,
    /// Unsigned 4-bit minus 8 with an f16 scale a group of 32; takes int8 activations.
    Q4_0 = 3,
    /// The upper half of a binary32; takes f32 activations.
    BF16 = 4,
    /// Unsigned 4-bit with an f16 scale and an f16 minimum a group of 32; takes int8 activations.
    Q4_1 = 5,
}

impl DType {
    /// All of them, by their numbers.
    pub const ALL: [DType; 6] = [DType::F32, DType::F16, DType::Q8_0, DType::Q4_0, DType::BF16, DType::Q4_1];

    /// Whether activations are quantized to int8 before they meet such weights.
    #[must_use]
    pub const fn is_quantized(self) -> bool {
        matches!(self, DType::Q8_0 | DType::Q4_0 | DType::Q4_1)
    }

    /// The name users and GGUF files know it by, lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::Q8_0 => "q8_0",
            DType::Q4_0 => "q4_0",
            DType::BF16 => "bf16",
            DType::Q4_1 => "q4_1",
        }
    }
}

impl TryFrom<u8> for DType {
    type Error = u8;

    /// The format with this number; an unknown number comes back as the error.
    fn try_from(v: u8) -> Result<Self, u8> {
        Ok(match v {
            0 => DType::F32,
            1 => DType::F16,
            2 => DType::Q8_0,
            3 => DType::Q4_0,
            4 => DType::BF16,
            5 => DType::Q4_1,
            other => return Err(other),
        })
    }
}

/// Format of the key-value cache.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KvType {
    /// IEEE binary32.
    F32 = 0,
    /// IEEE binary16, rounded to nearest even when stored.
    F16 = 1,
    /// Signed 8-bit with one f32 scale a (position, head) vector; queries are then int8 as well.
    I8 = 2,
}

impl KvType {
    /// The name users know it by, lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            KvType::F32 => "f32",
            KvType::F16 => "f16",
            KvType::I8 => "i8",
        }
    }

    /// Bytes of one cached value, without scales.
    #[must_use]
    pub const fn value_bytes(self) -> u64 {
        match self {
            KvType::F32 => 4,
            KvType::F16 => 2,
            KvType::I8 => 1,
        }
    }
}

impl TryFrom<u8> for KvType {
    type Error = u8;

    /// The format with this number; an unknown number comes back as the error.
    fn try_from(v: u8) -> Result<Self, u8> {
        Ok(match v {
            0 => KvType::F32,
            1 => KvType::F16,
            2 => KvType::I8,
            other => return Err(other),
        })
    }
}
