/// How a call across the boundary ended. A transparent number, not an enum: a
/// value that this version does not know must not be undefined behaviour.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status(pub u32);

impl Status {
    /// It is done.
    pub const OK: Status = Status(0);
    /// The other side refused; an error text says why.
    pub const FAILED: Status = Status(1);
    /// The component panicked; the panic was caught inside the library.
    pub const PANICKED: Status = Status(2);
    /// No room: the region has reached its limit, or its file system is full.
    pub const FULL: Status = Status(3);
    /// The transaction has outgrown what one commit record holds.
    pub const TOO_LARGE: Status = Status(4);
    /// A reference that names no live object of the expected type.
    pub const BAD_REF: Status = Status(5);
    /// The handle points at the dummy region: this code has been replaced.
    pub const DUMMY: Status = Status(6);
    /// What was named does not exist.
    pub const NOT_FOUND: Status = Status(7);
    /// A change where only reading is allowed.
    pub const READ_ONLY: Status = Status(8);

    /// Whether this is [`Status::OK`].
    pub const fn is_ok(self) -> bool {
        self.0 == Self::OK.0
    }
}
