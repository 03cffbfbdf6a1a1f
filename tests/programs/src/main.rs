//! Makes a component of WASI 0.2 from a module of WASI preview 1: `componentize MODULE COMPONENT`.
#![forbid(unsafe_code)]

use std::error::Error;

use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
};
use wit_component::ComponentEncoder;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [module, component] = arguments.as_slice() else {
        return Err("usage: componentize MODULE COMPONENT".into());
    };
    let encoded = ComponentEncoder::default()
        .module(&std::fs::read(module)?)?
        .validate(true)
        .adapter(
            WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME,
            WASI_SNAPSHOT_PREVIEW1_COMMAND_ADAPTER,
        )?
        .encode()?;
    std::fs::write(component, encoded)?;
    Ok(())
}
