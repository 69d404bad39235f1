package pause

// Point is the name of a place in the program where a test may interfere.
type Point string

// The points, in the order in which a request or a job passes them.
const (
	// BeforeUpload: the request was verified and admitted to the upload;
	// nothing of its body has been sent to the store.
	BeforeUpload Point = "BeforeUpload"

	// AfterUpload: the store acknowledged the bytes under a physical key that
	// nobody reads yet; the commit has not begun.
	AfterUpload Point = "AfterUpload"

	// BeforeCommit: inside the transaction, scope and keys are locked; neither
	// the writes nor COMMIT have been sent.
	BeforeCommit Point = "BeforeCommit"

	// AfterCommit: the database acknowledged the commit; the caller of the
	// transaction does not know it yet.
	AfterCommit Point = "AfterCommit"

	// BeforeRaise: a grant, a takeover or a higher external token is about to
	// raise a mark; its transaction has not begun.
	BeforeRaise Point = "BeforeRaise"

	// AfterRaise: the raised mark is committed; whoever asked for it has not
	// been answered.
	AfterRaise Point = "AfterRaise"

	// GuardPending: a new guard is committed as pending and not yet
	// acknowledged by every proxy.
	GuardPending Point = "GuardPending"

	// GuardActivate: every proxy acknowledged the pending guard, or its lease
	// ran out; the guard is about to be activated.
	GuardActivate Point = "GuardActivate"

	// CollectHorizon: the collector has committed a raised horizon and has not
	// yet looked for names below it.
	CollectHorizon Point = "CollectHorizon"

	// CollectNote: the collector has listed names below the horizon in the store and
	// has not yet compared them with the rows, nor noted those that nothing refers to.
	CollectNote Point = "CollectNote"

	// CollectDelete: the collector has chosen names that no row uses and is
	// about to delete them from the store.
	CollectDelete Point = "CollectDelete"

	// ExportPermit: an export has read the store's time and then seen that the
	// guard is still its own; nothing was signed with that time yet.
	ExportPermit Point = "ExportPermit"

	// ExportCopy: an object was found to be missing under its plain key, or other
	// there; nothing was sent.
	ExportCopy Point = "ExportCopy"

	// ExportClosed: the guard is committed as removing, for the last pass of an
	// export.
	ExportClosed Point = "ExportClosed"

	// ExportDrop: the last pass found nothing to do; the guard is about to go.
	ExportDrop Point = "ExportDrop"

	// ExportTidy: the guard is gone; the rows of its objects are still there.
	ExportTidy Point = "ExportTidy"

	// BeforeAnswer: the outcome is decided; the first byte of the answer to
	// the client has not been written.
	BeforeAnswer Point = "BeforeAnswer"
)

// Points lists every point, for validation and for tests that go through all
// of them. The slice is the caller's own.
func Points() []Point {
	return []Point{
		BeforeUpload, AfterUpload, BeforeCommit, AfterCommit, BeforeRaise, AfterRaise,
		GuardPending, GuardActivate, CollectHorizon, CollectNote, CollectDelete,
		ExportPermit, ExportCopy, ExportClosed, ExportDrop, ExportTidy, BeforeAnswer,
	}
}
