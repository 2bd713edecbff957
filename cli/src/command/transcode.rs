//! `df11 transcode`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use df11::frame::ElementType;
use df11_model::{Error, Form, TranscodeOptions, TranscodeReport, transcode};

use crate::output::{Output, Verdict};
use crate::render::{grouped, percent};

#[derive(Args)]
pub(crate) struct Transcode {
    /// The file to read.
    input: PathBuf,
    /// The file to write.
    #[arg(long, short)]
    output: PathBuf,
    /// The form to write.
    #[arg(long, value_name = "FORM")]
    to: FormName,
    /// The element type of a file of plain elements (or of the bytes of an ANS archive): U8, BF16,
    /// F16, F32, F8_E4M3 or F8_E5M2.
    #[arg(long, value_name = "TYPE", value_parser = element_type)]
    r#type: Option<ElementType>,
    /// The shape to write into a frame, such as 768,3072.
    #[arg(long, value_delimiter = ',')]
    shape: Option<Vec<u64>>,
    /// The module path or tensor name of the unit or frame to read, from a file with several.
    #[arg(long, value_name = "PATH")]
    unit: Option<String>,
    /// Replace the output if it exists.
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormName {
    /// Plain elements.
    Raw,
    /// A frame coded with rANS.
    Frame,
    /// A frame coded with a dictionary.
    Fast,
    /// An archive of dietgpu.
    Dietgpu,
    /// A DF11 unit.
    Df11,
}

impl From<FormName> for Form {
    fn from(name: FormName) -> Self {
        match name {
            FormName::Raw => Form::Raw,
            FormName::Frame => Form::Frame,
            FormName::Fast => Form::Fast,
            FormName::Dietgpu => Form::Dietgpu,
            FormName::Df11 => Form::Df11,
        }
    }
}

/// Parses the name of an element type, in upper or lower case.
fn element_type(name: &str) -> Result<ElementType, String> {
    let known =
        ElementType::ALL.into_iter().find(|element_type| element_type.name().eq_ignore_ascii_case(name));
    known.ok_or_else(|| format!("one of {}", ElementType::ALL.map(ElementType::name).join(", ")))
}

impl Transcode {
    pub(crate) fn run(self, output: &Output) -> Result<Verdict, Error> {
        let mut options = TranscodeOptions::new(self.to.into()).force(self.force);
        (options.element_type, options.shape, options.unit) = (self.r#type, self.shape, self.unit);
        let report = transcode(&self.input, &self.output, &options)?;
        output.show(&report, || transcoded(&report))
    }
}

fn transcoded(report: &TranscodeReport) -> String {
    format!(
        "{} elements of {}: {} -> {} bytes ({})\n",
        grouped(report.elements),
        report.element_type,
        grouped(report.bytes_before),
        grouped(report.bytes_after),
        percent(report.bytes_after, report.bytes_before),
    )
}
