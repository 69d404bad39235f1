/* The collector: names, epochs and the horizon of one scope, over a store where
 * requests land late and twice. F6.
 *
 * Time is left out: the horizon may rise at any moment and what was noted may be
 * deleted at once. So nothing that is shown here rests on longest_upload or
 * collect_after.
 */
#include "spec.pml"

#define HORIZON_NOT_LOCKED 1 /* F6: the horizon rises beside commits that have read it */
#define LOOK_FIRST 2 /* F6: names are compared before the horizon is committed */
#define COMMIT_BLIND 3 /* F6: commits do not compare the name's epoch */
#define HORIZON_TOO 4 /* F6: < is <=: names of the horizon itself are looked at */
#define UPLOADS_NOT_COUNTED 5 /* F6: an open upload does not hold its name */
#define COMPLETE_BLIND 6 /* F6: a Complete commits without its upload's row */
#define END_NOT_LOCKED 7 /* F6: uploads are ended beside a Complete that has read the row */
#define NAME_REUSED 8 /* F6: two writes send their bytes under one name */
#define PUT_NOT_AWAITED 9 /* F6: the commit does not wait until the store has answered */
#define READ_ONCE 10 /* F6: what the store does not have is not resolved again */
#define COMPLETED_NOT_AWAITED 11 /* F6: as 9, of a store that answers a Complete and did nothing */

#ifdef LARGE
#define PUTS 3
#define RUNS 2
#else
#define PUTS 2
#define RUNS 1
#endif
#define UPLOAD PUTS /* the name of a multipart upload */
#define NAMES (PUTS + 1)
#define NOBODY 255

/* The state database: the scope, the object's row, the upload's row, the garbage. */
byte epoch = 2, horizon = 1;
byte row = NOBODY, whose = NOBODY; /* the name and the write that it is of */
bool upload;
bool noted[NAMES];
byte sharing;
bool key;

/* The store: whose bytes lie under a name, and what is still on its way to it. */
byte bytes[NAMES] = NOBODY;
byte copies[NAMES]; /* how often the name's PUT may still land */
bool deleting[NAMES];
bool parts;         /* the upload is open in the store */

byte name_of_epoch[NAMES]; /* the epoch in each name */
#define held(n) (row == n || (n == UPLOAD && upload && !M(UPLOADS_NOT_COUNTED)))
#define intact (row == NOBODY || bytes[row] == whose)

/* What was sent lands at any time, a PUT once more than it was answered. */
proctype Network() {
end:	do
	:: d_step { copies[0] -> copies[0]--; bytes[0] = 0; assert(F6 || intact) }
	:: d_step { copies[1] -> copies[1]--; bytes[(M(NAME_REUSED) -> 0 : 1)] = 1; assert(F6 || intact) }
#ifdef LARGE
	:: d_step { copies[2] -> copies[2]--; bytes[2] = 2; assert(F6 || intact) }
	:: d_step { deleting[2] -> deleting[2] = false; bytes[2] = NOBODY; assert(F6 || intact) }
#endif
	:: d_step { deleting[0] -> deleting[0] = false; bytes[0] = NOBODY; assert(F6 || intact) }
	:: d_step { deleting[1] -> deleting[1] = false; bytes[1] = NOBODY; assert(F6 || intact) }
	:: d_step { deleting[UPLOAD] -> deleting[UPLOAD] = false; bytes[UPLOAD] = NOBODY; assert(F6 || intact) }
	od
}

inline lock_shared() { d_step { !key -> sharing++; key = true } }
inline unlock_shared() { sharing--; key = false }

/* point commits a row, or is rolled back. */
inline point(n, w) {
	if
	:: d_step { row = n; whose = w; assert(F6 || intact); unlock_shared() }
	:: d_step { unlock_shared() }
	fi
}

/* The epoch that a proxy saw last, which may be old. */
inline choose_epoch(n) {
	if
#ifdef LARGE
	:: name_of_epoch[n] = epoch
	:: name_of_epoch[n] = 1
#else
	:: n == 1 -> name_of_epoch[n] = epoch
	:: n != 1 -> name_of_epoch[n] = 1
#endif
	fi
}

/* A put, and a copy or an adoption, which do the same. */
proctype Put(byte w) {
	byte n, sent;
	bool may;
	atomic { n = (M(NAME_REUSED) -> 0 : w); choose_epoch(n); copies[w] = (w == 0 -> 2 : 1); sent = copies[w] };
	if
	:: M(PUT_NOT_AWAITED)
	:: copies[w] < sent /* answered, once it has landed; or never, and this is where it stays */
	fi;
	lock_shared();
	may = name_of_epoch[n] >= horizon || M(COMMIT_BLIND);
	if
	:: may -> point(n, w)
	:: else -> d_step { unlock_shared() }
	fi;
	atomic { n = 0; sent = 0; may = false }
}

/* A multipart upload, from its creation to its end. */
proctype Multipart() {
	bool may;
	atomic { choose_epoch(UPLOAD); parts = true };
	lock_shared();
	may = name_of_epoch[UPLOAD] >= horizon;
	d_step { upload = may; unlock_shared() };
	if
	:: may
	:: else -> parts = false; goto over
	fi;
	if
	:: /* Abort: the row first. */
		lock_shared();
		d_step { upload = false; unlock_shared() };
		parts = false;
		goto over
	:: skip
	fi;
	/* Complete: joined in the store, looked at, committed. */
	if
	:: d_step { parts -> parts = false; bytes[UPLOAD] = UPLOAD }
	:: !parts && !M(COMPLETED_NOT_AWAITED) -> goto over
	:: M(COMPLETED_NOT_AWAITED)
	fi;
	lock_shared();
	may = upload || M(COMPLETE_BLIND);
	if
	:: may ->
		if
		:: d_step { row = UPLOAD; whose = UPLOAD; upload = false; assert(F6 || intact); unlock_shared() }
		:: d_step { unlock_shared() } /* rolled back; the upload stays open */
		fi
	:: else -> d_step { unlock_shared() }
	fi;
over:
	may = false
}

/* Somebody's collector finds that the upload has been open for too long. */
proctype End() {
	if
	:: d_step { sharing == 0 || M(END_NOT_LOCKED) -> upload = false }
	:: skip
	fi
}

/* One run of a collector after the other. */
proctype Collector() {
	byte run_, n, h;
	bool free[NAMES];
	for (run_ : 1 .. RUNS) {
		if
		:: !upload && parts -> parts = false /* aborted in the store: nothing refers to it */
		:: skip
		fi;
		h = horizon;
		BROKEN(LOOK_FIRST, h = epoch);
		if
		:: M(LOOK_FIRST)
		:: d_step { !M(LOOK_FIRST) && (sharing == 0 || M(HORIZON_NOT_LOCKED)) -> horizon = epoch; epoch++; h = horizon }
		fi;
		/* The names in the store; then the rows, in one read; then the notes. */
		for (n : 0 .. NAMES - 1) { free[n] = bytes[n] != NOBODY && (name_of_epoch[n] < h || (M(HORIZON_TOO) && name_of_epoch[n] == h)) };
		atomic { for (n : 0 .. NAMES - 1) { noted[n] = noted[n] || (free[n] && !held(n)) } };
		BROKEN(LOOK_FIRST, d_step { horizon = epoch; epoch++ });
		/* What was noted is looked at once more, and deleted. */
		atomic { for (n : 0 .. NAMES - 1) { free[n] = noted[n] && !held(n); noted[n] = false } };
		atomic { for (n : 0 .. NAMES - 1) { deleting[n] = deleting[n] || free[n]; free[n] = false } };
		d_step { n = 0; h = 0 }
	}
}

/* A reader resolves the row and opens the bytes, which may be gone by then. */
proctype Reader() {
	byte n = NOBODY, before = NOBODY;
	do
	:: atomic {
			n = row;
			/* The same row twice is an alarm, and never a 404. */
			assert(F6 || n == NOBODY || n != before);
			if
			:: n == NOBODY -> break
			:: else
			fi
		};
		atomic {
			if
			:: bytes[n] != NOBODY -> break
			:: else -> assert(F6 || !M(READ_ONCE)); before = n
			fi
		}
	od;
	atomic { n = NOBODY; before = NOBODY }
}

init {
	byte w;
	atomic {
		CHOOSE;
		run Network();
		for (w : 0 .. PUTS - 1) { run Put(w) };
		w = 0;
		run Multipart();
		run Collector();
		run End();
		run Reader()
	}
}
