//! The variants of a kernel family: ways to compute the same, of which a launch takes one.

use super::Reject;

/// One way to compute what a family computes.
pub trait Variant {
    /// What is to be computed.
    type Problem;

    /// Its stable name.
    fn id(&self) -> &'static str;

    /// Whether it computes `problem`.
    fn accepts(&self, problem: &Self::Problem) -> Result<(), Reject>;
}

/// The variants of a family, in the order in which they are tried.
#[derive(Debug)]
pub struct Variants<V: 'static>(pub &'static [V]);

impl<V: Variant> Variants<V> {
    /// The variant of this id.
    pub fn by_id(&self, id: &str) -> Result<&'static V, Reject> {
        self.iter().find(|variant| variant.id() == id).ok_or(Reject::UnknownVariant)
    }

    /// The first variant that accepts, or why the last one of the problem's element types does not.
    pub fn choose(&self, problem: &V::Problem) -> Result<&'static V, Reject> {
        let mut why = Reject::UnknownVariant;
        for variant in self.0 {
            match variant.accepts(problem) {
                Ok(()) => return Ok(variant),
                Err(Reject::ElementType { .. }) => {}
                Err(reject) => why = reject,
            }
        }
        Err(why)
    }

    /// All of them.
    pub fn iter(&self) -> core::slice::Iter<'static, V> {
        self.0.iter()
    }
}

impl<V: Variant> IntoIterator for &Variants<V> {
    type Item = &'static V;
    type IntoIter = core::slice::Iter<'static, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computes numbers up to a limit, even ones or odd ones.
    struct UpTo(&'static str, u64, bool);

    impl Variant for UpTo {
        type Problem = u64;

        fn id(&self) -> &'static str {
            self.0
        }

        fn accepts(&self, &got: &u64) -> Result<(), Reject> {
            if got.is_multiple_of(2) != self.2 {
                return Err(Reject::ElementType { operand: "x" });
            }
            if got <= self.1 { Ok(()) } else { Err(Reject::Extent { name: "x", got, limit: self.1 }) }
        }
    }

    #[test]
    fn the_first_that_accepts_is_chosen_and_types_of_others_are_no_reason() {
        static FAMILY: Variants<UpTo> =
            Variants(&[UpTo("a", 4, true), UpTo("b", 8, true), UpTo("c", 3, false)]);
        let chosen = |x| FAMILY.choose(&x).map(Variant::id);
        assert_eq!([chosen(4), chosen(6), chosen(3)], [Ok("a"), Ok("b"), Ok("c")]);
        assert_eq!(chosen(10), Err(Reject::Extent { name: "x", got: 10, limit: 8 }));
        assert_eq!(chosen(5), Err(Reject::Extent { name: "x", got: 5, limit: 3 }));
        assert_eq!(FAMILY.by_id("b").map(|variant| variant.1), Ok(8));
        assert_eq!(FAMILY.by_id("d").err(), Some(Reject::UnknownVariant));
    }
}
