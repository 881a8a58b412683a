//! One state of everything: the API server, the controllers, the node's agent and its ledger, the host, the callers.
//! Plain numbers, so that millions fit; what a record says is behind its number, in [`super::lab`].

/// How many there are at most of each: volumes, claim names, controllers.
pub(super) const TWO: usize = 2;

/// The number of a volume's record.
pub(super) type Rec = u16;

/// The id of a tenancy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id {
    pub(super) volume: u8,
    pub(super) tenancy: u8,
}

/// A `LocalVolume` at the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Object {
    pub(super) rec: Rec,
    pub(super) version: u8,
    pub(super) deleting: bool,
    /// Whether it has Berth's finalizer.
    pub(super) kept: bool,
    /// Whether it has a status.
    pub(super) complete: bool,
}

/// A record as somebody has read it, at its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Read {
    pub(super) rec: Rec,
    pub(super) version: u8,
    pub(super) deleting: bool,
}

/// What a claim wants written: the spec of `rec`, at that version of the volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Wish {
    pub(super) name: u8,
    pub(super) volume: u8,
    pub(super) version: u8,
    pub(super) rec: Rec,
}

/// A reservation at the API server: a wish, and the version of the Lease itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Lease {
    pub(super) wish: Wish,
    pub(super) id: u8,
}

/// What a controller is about to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Op {
    Idle,
    /// Make the reservation.
    Reserve(Wish),
    /// Find out what a standing reservation came to, for a wish or for whoever asks who holds the name.
    Settle(Lease, Option<Wish>),
    /// Write the spec of a standing reservation.
    Help(Lease, Option<Wish>),
    /// Put a reservation in the place of a dead one.
    Replace(Lease, Wish),
    /// Write the claim.
    Write(Lease),
    /// Find out why it was refused.
    Conflicted(Lease),
    /// Delete a dead reservation.
    Drop(Lease),
    /// Read what the claim holds, and answer.
    Answer {
        name: u8,
        volume: u8,
    },
    /// Look for the reservation of a claim that ended with this version.
    Tidy {
        name: u8,
        volume: u8,
        version: u8,
    },
}

/// A controller: its index, as far as the watch and answers have told, and what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Controller {
    pub(super) index: [Option<Read>; TWO],
    pub(super) op: Op,
}

/// A write of the agent to the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Write {
    /// Make the object, in its first step or, with the version of the object without a status, its second.
    Add { volume: u8, rec: Rec, begun: Option<u8> },
    /// Write the status of `rec` at this version.
    Observe { volume: u8, rec: Rec, version: u8 },
    /// Delete what is at this version, then add `rec`.
    Replace { volume: u8, rec: Rec, version: u8 },
}

/// Where a tenancy is on the host, as the agent's process knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Places {
    pub(super) tenancy: u8,
    pub(super) staged: bool,
    pub(super) target: bool,
    /// Whether that is to be written down.
    pub(super) due: bool,
}

/// How far a wipe is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wipe {
    None,
    Begun(u8),
    Half(u8),
}

/// A call of the kubelet under way: staging, or else publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Turn {
    pub(super) id: Id,
    pub(super) name: u8,
    pub(super) stage: bool,
}

/// An agent's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Agent {
    /// What the API server has, as the watch has told.
    pub(super) heard: [Option<Read>; TWO],
    /// Whether the watch has begun.
    pub(super) listed: bool,
    /// Whether it serves, finds and wipes.
    pub(super) begun: bool,
    /// Which version it took its decisions from.
    pub(super) taken: [u8; TWO],
    pub(super) write: Option<Write>,
    pub(super) places: [Places; TWO],
    pub(super) turns: [Option<Turn>; TWO],
    pub(super) wipes: [Wipe; TWO],
}

/// Whose data, or whose mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Owner {
    pub(super) name: u8,
    pub(super) tenancy: u8,
}

/// A volume on the host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Host {
    pub(super) data: Option<Owner>,
    /// Whether a part of the data was wiped.
    pub(super) half: bool,
    /// For whom it is mounted at a target.
    pub(super) target: Option<Owner>,
    /// Whether a program of a wipe runs whose agent is gone.
    pub(super) orphan: bool,
}

/// What a caller is about to have done for a claim's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Wants {
    /// To be given a volume.
    Volume,
    /// Nothing: it was told that it holds this.
    Holds(Id),
    /// That this ends.
    End(Id),
    /// Nothing any more.
    Nothing,
}

/// The orchestrator, for one claim's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Caller {
    pub(super) wants: Wants,
    /// The tenancy whose end it was told of.
    pub(super) old: Option<Id>,
    /// How often it may ask for a volume again.
    pub(super) lives: u8,
}

/// What may go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    ControllerCrash,
    AgentCrash,
    Reset,
    LedgerLost,
    ObjectDeleted,
    LeaseDeleted,
    SetBack,
    NodeDeleted,
}

/// How often each of them may still happen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Faults([u8; 8]);

impl Faults {
    pub(super) const NONE: Self = Self([0; 8]);

    pub(super) const fn new(faults: &[(Fault, u8)]) -> Self {
        let mut all = Self::NONE;
        let mut at = 0;
        while at < faults.len() {
            all.0[faults[at].0 as usize] = faults[at].1;
            at += 1;
        }
        all
    }

    pub(super) fn may(self, fault: Fault) -> bool {
        self.0[fault as usize] > 0
    }

    /// How often each may after this one.
    pub(super) fn after(mut self, fault: Fault) -> Option<Self> {
        let left = &mut self.0[fault as usize];
        *left = left.checked_sub(1)?;
        Some(self)
    }
}

/// What was once so at the API server, to which it may be set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Backup {
    pub(super) api: [Option<Object>; TWO],
    pub(super) leases: [Option<Lease>; TWO],
    pub(super) callers: [Caller; TWO],
}

/// A rule that does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Broken {
    /// Two claims were told that they hold one volume.
    TwoTenants,
    /// One claim's name holds two volumes, or was told of two.
    TwoVolumes,
    /// A volume with somebody's data on it is claimable.
    ClaimableWithData,
    /// A tenant's mount shows what another one wrote, or what a wipe left of it.
    DataShown,
    /// A volume is claimable while it is mounted for a tenant.
    ClaimableWhileMounted,
    /// A wipe touched a volume while it was mounted for a tenant.
    WipedWhileMounted,
    /// A wipe touched what a claim holds that nobody ended.
    DataLost,
    /// A claim that its caller was told of is nowhere any more.
    ClaimLost,
    /// A claim stands, or stands again, though its caller was told that it ended.
    EndUndone,
    /// A tenancy's number was given twice.
    TenancyAgain,
}

/// All of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct State {
    pub(super) api: [Option<Object>; TWO],
    pub(super) leases: [Option<Lease>; TWO],
    /// The latest version that the API server gave.
    pub(super) written: u8,
    pub(super) controllers: [Controller; TWO],
    pub(super) ledger: [Option<Rec>; TWO],
    /// Whether the ledger has had all that the API server knew.
    pub(super) ledger_whole: bool,
    pub(super) agent: Option<Agent>,
    /// A write that an agent sent before it ended, still on its way.
    pub(super) late: Option<Write>,
    pub(super) host: [Host; TWO],
    pub(super) callers: [Caller; TWO],
    /// The highest tenancy of each volume that a caller was told of.
    pub(super) given: [u8; TWO],
    /// The Node object: its UID, and whether it is there.
    pub(super) node: (u8, bool),
    /// How often a record was found anew.
    pub(super) found: u8,
    pub(super) faults: Faults,
    pub(super) backup: Option<Backup>,
    /// Whether the API server was set back.
    pub(super) is_set_back: bool,
    pub(super) broken: Option<Broken>,
}

/// What happens in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) what: &'static str,
    pub(super) of: [u8; 2],
    pub(super) fault: bool,
}

impl std::fmt::Display for Label {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fault = if self.fault { "! " } else { "" };
        write!(formatter, "{fault}{} {} {}", self.what, self.of[0], self.of[1])
    }
}

impl Object {
    /// What readers of it see.
    pub(super) fn read(self) -> Option<Read> {
        let is_volume = self.complete && (!self.deleting || self.kept);
        let Self { rec, version, deleting, .. } = self;
        is_volume.then_some(Read { rec, version, deleting })
    }
}

impl State {
    /// What a look at a volume's object finds.
    pub(super) fn look(&self, volume: u8) -> Option<Read> {
        self.api[usize::from(volume)].and_then(Object::read)
    }

    /// A new version.
    pub(super) fn version(&mut self) -> u8 {
        self.written += 1;
        self.written
    }

    pub(super) fn breaks(&mut self, rule: Broken) {
        self.broken.get_or_insert(rule);
    }
}

impl Write {
    pub(super) fn volume(self) -> u8 {
        let (Self::Add { volume, .. }
        | Self::Observe { volume, .. }
        | Self::Replace { volume, .. }) = self;
        volume
    }
}
