//! Linker fragments.

use std::fmt::Write;

use crate::kind::Kind;

impl Kind {
    /// The text of `memory.x` for the firmware: its two linked regions, and the fixed model and arena
    /// regions as symbols `_edgeprof_{model,arena}_{start,size}`.
    ///
    /// The stack starts at the end of `ram` and grows down to the statics; the linker refuses a
    /// firmware whose code or statics outgrow their region.
    #[must_use]
    pub fn linker_script(&self) -> String {
        let memory = &self.memory;
        let mut out = format!("/* Memory of {}, from the board catalogue. */\nMEMORY\n{{\n", self.name);
        for (name, mode, region) in [("FLASH", "rx", memory.code), ("RAM", "rwx", memory.ram)] {
            let (origin, size) = (region.origin, region.size);
            writeln!(out, "  {name} ({mode}) : ORIGIN = {origin:#010x}, LENGTH = {size:#x}")
                .expect("writing to a String");
        }
        out.push_str("}\n\n");
        for (name, region) in [("model", memory.model), ("arena", memory.arena)] {
            let (origin, size) = (region.origin, region.size);
            writeln!(out, "_edgeprof_{name}_start = {origin:#010x};\n_edgeprof_{name}_size = {size:#x};")
                .expect("writing to a String");
        }
        out.push_str("_stack_start = ORIGIN(RAM) + LENGTH(RAM);\n");
        out
    }
}

#[cfg(test)]
mod tests {
    use crate::catalogue;

    #[test]
    fn the_script_places_every_region() {
        let script = catalogue().get("netduinoplus2").unwrap().linker_script();
        for line in [
            "  FLASH (rx) : ORIGIN = 0x08000000, LENGTH = 0x40000",
            "  RAM (rwx) : ORIGIN = 0x20000000, LENGTH = 0x8000",
            "_edgeprof_model_start = 0x08040000;",
            "_edgeprof_model_size = 0xc0000;",
            "_edgeprof_arena_start = 0x20008000;",
            "_edgeprof_arena_size = 0x18000;",
        ] {
            assert!(script.lines().any(|found| found == line), "{line} in\n{script}");
        }
    }
}
