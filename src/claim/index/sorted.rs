//! A set in order, small where it holds little: a cluster has thousands of nodes with a few volumes of each pool, and the
//! smallest tree has room for eleven.

use std::collections::BTreeSet;

/// How many a list holds before it becomes a tree: to move so many takes no longer than to find the place.
const FEW: usize = 32;

/// Values in order, each once.
#[derive(Debug)]
pub(super) enum Sorted<T> {
    Few(Vec<T>),
    Many(BTreeSet<T>),
}

impl<T> Default for Sorted<T> {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl<T: Ord> Sorted<T> {
    /// Adds a value; says whether it was not there.
    pub(super) fn insert(&mut self, value: T) -> bool {
        match self {
            Self::Many(many) => many.insert(value),
            Self::Few(few) => match few.binary_search(&value) {
                Ok(_) => false,
                Err(_) if few.len() == FEW => {
                    let mut many: BTreeSet<T> = std::mem::take(few).into_iter().collect();
                    many.insert(value);
                    *self = Self::Many(many);
                    true
                }
                Err(place) => {
                    few.insert(place, value);
                    true
                }
            },
        }
    }

    /// Takes a value out; says whether it was there.
    pub(super) fn remove(&mut self, value: &T) -> bool {
        match self {
            Self::Many(many) => many.remove(value),
            Self::Few(few) => few.binary_search(value).map(|place| few.remove(place)).is_ok(),
        }
    }

    /// The values that are not before `least`, in order.
    pub(super) fn not_before<'a>(&'a self, least: &T) -> impl Iterator<Item = &'a T> + use<'a, T> {
        let (few, many) = match self {
            Self::Few(few) => (Some(&few[few.partition_point(|value| value < least)..]), None),
            Self::Many(many) => (None, Some(many.range(least..))),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let (few, many) = match self {
            Self::Few(few) => (Some(few), None),
            Self::Many(many) => (None, Some(many)),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    /// The first.
    pub(super) fn first(&self) -> Option<&T> {
        match self {
            Self::Few(few) => few.first(),
            Self::Many(many) => many.first(),
        }
    }

    /// The last.
    pub(super) fn last(&self) -> Option<&T> {
        match self {
            Self::Few(few) => few.last(),
            Self::Many(many) => many.last(),
        }
    }
}

/// By what they hold: one that held much once may be a tree still.
impl<T: Ord> PartialEq for Sorted<T> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<T: Ord> Eq for Sorted<T> {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn it_holds_what_a_tree_would_whatever_came_and_went(
            steps in proptest::collection::vec((any::<bool>(), 0_u8..80), 0..200),
            least in 0_u8..80,
        ) {
            let (mut sorted, mut tree) = (Sorted::default(), BTreeSet::new());

            for (comes, value) in steps {
                let (done, expected) = if comes {
                    (sorted.insert(value), tree.insert(value))
                } else {
                    (sorted.remove(&value), tree.remove(&value))
                };
                prop_assert_eq!(done, expected);
            }

            prop_assert!(sorted.iter().eq(&tree));
            prop_assert!(sorted.not_before(&least).eq(tree.range(least..)));
            prop_assert_eq!((sorted.first(), sorted.last()), (tree.first(), tree.last()));
        }
    }

    #[test]
    fn one_that_is_empty_again_is_as_one_that_never_held_anything() {
        let mut sorted = Sorted::default();
        for value in 0..=FEW {
            sorted.insert(value);
        }
        assert!(matches!(sorted, Sorted::Many(_)) && sorted != Sorted::default());

        for value in 0..=FEW {
            sorted.remove(&value);
        }

        assert_eq!(sorted, Sorted::default());
    }
}
