fn main() {
    if let Err(error) = edgeprof_firmware_build::run() {
        println!("cargo::error={error}");
    }
}
