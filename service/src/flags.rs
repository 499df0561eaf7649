//! Flags, and the environment that stands in for them.

use clap::{CommandFactory, Parser, error::ContextKind, error::ContextValue};

/// The command line. What is wrong with it is printed, and ends the process with exit code 2.
pub fn parse<F: Parser>() -> F {
    F::try_parse().unwrap_or_else(|error| {
        match blamed::<F>(&error, std::env::args(), |name| std::env::var(name).ok()) {
            Some(text) => {
                eprintln!("{text}");
                std::process::exit(2)
            }
            None => error.exit(),
        }
    })
}

/// An error about a value that came from the environment, in its terms: clap names the flag only, which the
/// person has not given.
fn blamed<F: CommandFactory>(
    error: &clap::Error,
    mut given: impl Iterator<Item = String>,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    let Some(ContextValue::String(flag)) = error.get(ContextKind::InvalidArg) else { return None };
    let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue) else { return None };
    let flag = flag.split([' ', '=']).next()?;
    let command = F::command();
    let argument = command.get_arguments().find(|a| a.get_long() == flag.strip_prefix("--"))?;
    let name = argument.get_env()?.to_str()?;
    let set = variable(name)?;
    let typed = given.any(|text| text == flag || text.starts_with(&format!("{flag}=")));
    if typed || !set.contains(value.as_str()) {
        return None;
    }
    let text = error.to_string();
    let why = text.lines().next().and_then(|line| line.rsplit_once("': ")).map(|(_, why)| why);
    let mut said = format!("error: in the environment, {name}={set:?}: {}", why.unwrap_or("invalid value"));
    if let Some(ContextValue::Strings(values)) = error.get(ContextKind::ValidValue)
        && !values.is_empty()
    {
        said += &format!("; possible values: {}", values.join(", "));
    }
    said += &format!("\nhint: unset {name}, set it right, or give {flag}");
    Some(said)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::telemetry::LogFormat;

    #[derive(Debug, Parser)]
    struct Flags {
        #[arg(long, value_name = "ADDR", env = "SAMPLE_LISTEN_OF_A_TEST")]
        listen: Option<SocketAddr>,
        #[arg(long, env = "SAMPLE_FORMAT_OF_A_TEST")]
        log_format: Option<LogFormat>,
    }

    /// As if the value came from the environment, which a test must not change.
    fn said(flag: &str, value: &str, typed: bool) -> Option<String> {
        let line = ["program", flag, value];
        let error = Flags::try_parse_from(line).unwrap_err();
        let given = if typed { &line[..] } else { &line[..1] };
        blamed::<Flags>(&error, given.iter().map(ToString::to_string), |_| Some(value.to_owned()))
    }

    #[test]
    fn a_wrong_variable_is_named_and_not_the_flag_that_nobody_gave() {
        assert_eq!(
            said("--listen", "xyz", false).unwrap(),
            "error: in the environment, SAMPLE_LISTEN_OF_A_TEST=\"xyz\": invalid socket address syntax\n\
             hint: unset SAMPLE_LISTEN_OF_A_TEST, set it right, or give --listen"
        );
        let text = said("--log-format", "xml", false).unwrap();
        assert!(text.contains("SAMPLE_FORMAT_OF_A_TEST=\"xml\"") && text.contains("text, json"), "{text}");
        assert_eq!(said("--listen", "xyz", true), None);
    }
}
