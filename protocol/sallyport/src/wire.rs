// SPDX-License-Identifier: Apache-2.0

//! A macro for enumerations whose numbers cross the border. Foreign numbers are checked here.

/// Declares an enumeration with fixed wire numbers and total conversions in both directions.
macro_rules! wire_enum {
    (
        $(#[$meta:meta])*
        $name:ident: $repr:ident {
            $($(#[$variant_meta:meta])* $variant:ident = $value:literal,)+
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr($repr)]
        pub enum $name {
            $($(#[$variant_meta])* $variant = $value,)+
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The number on the wire.
            pub const fn to_wire(self) -> $repr {
                self as $repr
            }

            /// The value of a number on the wire; `None` when this version has no such number.
            pub const fn from_wire(number: $repr) -> Option<Self> {
                match number {
                    $($value => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}
