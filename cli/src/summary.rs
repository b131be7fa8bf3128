//! Summaries of values: dtype, shape, range, mean, first elements.

use half::{bf16, f16};
use recurve::values::Bool;
use recurve::{DType, Element, Tensor, Value};
use serde::Serialize;
use serde_json::{Number, Value as Json};

/// A named value in a document.
#[derive(Debug, Serialize)]
pub(crate) struct OutputEntry {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) value: ValueSummary,
}

/// A value in a document.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum ValueSummary {
    Tensor { dtype: &'static str, shape: Vec<usize>, summary: Option<Summary> },
    Sequence { sequence: Vec<ValueSummary> },
    Optional { optional: Option<Box<ValueSummary>> },
}

/// What a tensor holds. JSON has no NaN and no infinities: range and mean are of the finite elements and `null`
/// where there is none; among the first elements they are text.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Summary {
    min: Option<Number>,
    max: Option<Number>,
    mean: Option<f64>,
    not_finite: usize,
    first: Vec<Json>,
}

/// First elements shown.
const FIRST: usize = 6;

impl ValueSummary {
    pub(crate) fn of(value: &Value) -> Self {
        match value {
            Value::Tensor(t) => {
                Self::Tensor { dtype: t.dtype().name(), shape: t.shape().to_vec(), summary: summarize(t) }
            }
            Value::Sequence(s) => Self::Sequence { sequence: s.items().iter().map(Self::of).collect() },
            Value::Optional(o) => Self::Optional { optional: o.as_deref().map(|v| Box::new(Self::of(v))) },
        }
    }

    /// Form and summary as two cells of a table.
    pub(crate) fn cells(&self) -> [String; 2] {
        match self {
            Self::Tensor { dtype, shape, summary } => {
                let text = summary.as_ref().map(ToString::to_string).unwrap_or_default();
                [format!("{dtype} {shape:?}"), text]
            }
            Self::Sequence { sequence } => {
                let first = sequence.first().map(|item| item.cells().join("  ")).unwrap_or_default();
                [format!("sequence of {}", sequence.len()), first]
            }
            Self::Optional { optional: None } => ["none".to_owned(), String::new()],
            Self::Optional { optional: Some(value) } => value.cells(),
        }
    }
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let (Some(min), Some(max), Some(mean)) = (&self.min, &self.max, self.mean) {
            write!(f, "min {}  max {}  mean {}  ", short(min), short(max), digits(mean))?;
        }
        if self.not_finite > 0 {
            write!(f, "{} not finite  ", self.not_finite)?;
        }
        let first: Vec<String> = self
            .first
            .iter()
            .map(|element| match element {
                Json::Number(number) => short(number),
                Json::String(text) => text.clone(),
                other => other.to_string(),
            })
            .collect();
        write!(f, "[{}{}]", first.join(", "), if first.len() < FIRST { "" } else { ", …" })
    }
}

/// Six significant digits.
fn short(number: &Number) -> String {
    match number.as_f64() {
        Some(value) if number.is_f64() => digits(value),
        _ => number.to_string(),
    }
}

fn digits(value: f64) -> String {
    const DIGITS: i32 = 6;
    let magnitude = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    if !(-5..=DIGITS).contains(&magnitude) {
        return format!("{value:.*e}", DIGITS as usize - 1);
    }
    let text = format!("{value:.*}", (DIGITS - 1 - magnitude).max(0) as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// `None` for element types that have no numbers to speak of.
fn summarize(tensor: &Tensor) -> Option<Summary> {
    let float = |x: f64| Number::from_f64(x);
    // A float32 as the decimal that it is read back from, not as the float64 next to it.
    let single = |x: f32| x.to_string().parse::<f64>().ok().and_then(Number::from_f64);
    Some(match tensor.dtype() {
        DType::F32 => numbers(tensor, single, f64::from),
        DType::F64 => numbers(tensor, float, |x| x),
        DType::F16 => numbers(tensor, |x: f16| single(x.to_f32()), f64::from),
        DType::BF16 => numbers(tensor, |x: bf16| single(x.to_f32()), f64::from),
        DType::I8 => numbers(tensor, |x: i8| Some(x.into()), f64::from),
        DType::I16 => numbers(tensor, |x: i16| Some(x.into()), f64::from),
        DType::I32 => numbers(tensor, |x: i32| Some(x.into()), f64::from),
        DType::I64 => numbers(tensor, |x: i64| Some(x.into()), |x| x as f64),
        DType::U8 => numbers(tensor, |x: u8| Some(x.into()), f64::from),
        DType::U16 => numbers(tensor, |x: u16| Some(x.into()), f64::from),
        DType::U32 => numbers(tensor, |x: u32| Some(x.into()), f64::from),
        DType::U64 => numbers(tensor, |x: u64| Some(x.into()), |x| x as f64),
        DType::Bool => {
            let truths = |x: Bool| Some(u8::from(x.get()).into());
            let mut summary = numbers(tensor, truths, |x| f64::from(u8::from(x.get())));
            for element in &mut summary.first {
                *element = Json::Bool(element.as_u64() == Some(1));
            }
            summary
        }
        DType::String => Summary {
            first: tensor.as_strings()?.iter().take(FIRST).map(|text| Json::String(text.clone())).collect(),
            ..Summary::default()
        },
        _ => return None,
    })
}

fn numbers<T: Element>(
    tensor: &Tensor,
    json: impl Fn(T) -> Option<Number>,
    real: impl Fn(T) -> f64,
) -> Summary {
    // Outputs of a run are aligned; anything else is copied.
    let copy;
    let elements: &[T] = if let Some(elements) = tensor.as_slice::<T>() {
        elements
    } else {
        copy = tensor.to_vec::<T>().unwrap_or_default();
        &copy
    };
    let (mut range, mut sum, mut finite): (Option<(T, T)>, f64, usize) = (None, 0.0, 0);
    for &element in elements {
        let value = real(element);
        if !value.is_finite() {
            continue;
        }
        finite += 1;
        sum += value;
        range = Some(match range {
            None => (element, element),
            Some((min, max)) => {
                (if element < min { element } else { min }, if element > max { element } else { max })
            }
        });
    }
    let show = |&element: &T| {
        json(element).map_or_else(|| Json::String(real(element).to_string().to_lowercase()), Json::Number)
    };
    Summary {
        min: range.and_then(|(min, _)| json(min)),
        max: range.and_then(|(_, max)| json(max)),
        mean: (finite > 0).then(|| sum / finite as f64),
        not_finite: elements.len() - finite,
        first: elements.iter().take(FIRST).map(show).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_digits_are_shown() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-1.25, "-1.25"),
            (0.000_976_562_5, "0.000976562"),
            (123_456.789, "123457"),
            (65504.0, "65504"),
            (1e-9, "1.00000e-9"),
            (3.402_823e38, "3.40282e38"),
        ] {
            assert_eq!(digits(value), text);
        }
    }
}
