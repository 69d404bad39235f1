/* A guard that is added while clients write without one, through two proxies of
 * which one starts and may stop meanwhile: leases, acknowledgements, flights and
 * adoption. F6, F9.
 *
 * All clocks run alike. A moment is kept as its age, in ticks, and not beyond that of
 * a lease that is over; so time has no bound. Any process may freeze at any step while
 * time goes on.
 */
#include "spec.pml"

#define NOT_WAITED 1 /* F6: the guard is active as soon as it is pending */
#define ANSWER_UNCHECKED 2 /* F6: no StillValid before the answer */
#define AT_MOST 3 /* F9: <= for <: a lease is good for one tick more */
#define ACK_WITH_FLIGHTS 4 /* F6: a version is acknowledged while covered flights run */
#define NOT_BOUND 5 /* F6: flights live on by whatever lease comes next */
#define BOUND_FIRST 6 /* F6: StillValid looks for the bound before the lease */
#define INSTALLED_AT_ONCE 7 /* F6: the new list has its lease before flights are bound */
#define ASKED_LATE 8 /* F6: a lease counts from the answer */
#define LOOKED_UP_FIRST 9 /* F6: a flight is registered after its look at the list */
#define RENEWED_UNLOCKED 10 /* F6: a renewal reads the list before its row is seen, and the first is no exception */
#define FORGOTTEN_FIRST 11 /* F6: a proxy that stops says so before it refuses writes */
#define SINCE_EARLY 12 /* F6: the wait counts from before the guard was committed */
#define COMMIT_BLIND 13 /* F6: commits do not look whether the guard is active */
#define ANY_ROW 14 /* F6: a row of a proxy is taken for its acknowledgement */

#ifdef LARGE
#define LEASE 2
#define RENEWALS 2
#else
#define LEASE 1
#define RENEWALS 1
#endif
#define PROXIES 2
/* The age of what lies so far back that it makes no difference. */
#ifdef MUTANTS
#define OLD (LEASE + 1)
#else
#define OLD LEASE
#endif

/* The state: the list's version, which is the guard's state here, and the proxies. */
#define PENDING 1
#define ACTIVE 2
byte version;
bool there[PROXIES];
byte acked_row[PROXIES];
#define NONE 255
#define SEALED 254
byte row = NONE; /* the object under the guard: a flight's bytes, or those of a sealed write */

/* The store: the plain object. */
byte plain = NONE;
bool sent[PROXIES], landed[PROXIES];

/* Each proxy's list. */
bool has[PROXIES], closed[PROXIES], renewing[PROXIES];
byte list[PROXIES], acked[PROXIES], blocking[PROXIES];
byte asked[PROXIES] = OLD; /* the moment from which its lease counts */
byte at[PROXIES] = OLD, old[PROXIES] = OLD; /* those of a renewal under way */

/* Its flights. */
bool registered[PROXIES], bound[PROXIES];
byte bound_to[PROXIES] = OLD, loaded[PROXIES] = OLD;

#define good(p, age) (!closed[p] && ((age) < LEASE || (M(AT_MOST) && (age) == LEASE)))

/* What the adder has done, and what its copy found. */
bool waited, copied, in_stock[PROXIES];
byte since = OLD;

#define older(age) age = (age < OLD -> age + 1 : OLD)
#define younger(age) (age[0] < OLD || age[1] < OLD)

proctype Clock() {
end:	do
	:: d_step {
		since < OLD || younger(asked) || younger(at) || younger(old) || younger(bound_to) || younger(loaded) ->
		older(since);
		older(asked[0]); older(at[0]); older(old[0]);
		older(asked[1]); older(at[1]); older(old[1]);
		older(bound_to[0]); older(loaded[0]);
		older(bound_to[1]); older(loaded[1])
	   }
	od
}

/* Late PUTs land at any time. */
proctype Network() {
end:	do
	:: d_step { sent[0] && !landed[0] -> plain = 0; landed[0] = true }
	:: d_step { sent[1] && !landed[1] -> plain = 1; landed[1] = true }
	od
}

/* ask is one renewal. The state's part is one moment, under the list's lock. A proxy
 * has one flight, of its own number. */
inline ask(p, got, lapsed, changed) {
	d_step {
		acked[p] = (has[p] && (blocking[p] == 0 || M(ACK_WITH_FLIGHTS)) -> list[p] : acked[p]);
		at[p] = 0
	};
	BROKEN(RENEWED_UNLOCKED, got = version);
	d_step {
		there[p] = true;
		acked_row[p] = acked[p];
		got = (M(RENEWED_UNLOCKED) -> got : version)
	};
	BROKEN(ASKED_LATE, at[p] = 0);
	if
	:: d_step { !has[p] -> has[p] = true; list[p] = got; asked[p] = at[p]; changed = true }
	:: d_step { has[p] && got == list[p] -> asked[p] = at[p]; changed = false }
	:: d_step {
		has[p] && got != list[p] ->
		/* The new list first, under the old lease; then the flights; then the lease. */
		old[p] = asked[p];
		list[p] = got;
		lapsed = !good(p, old[p]);
		asked[p] = (M(INSTALLED_AT_ONCE) -> at[p] : asked[p])
	   };
		d_step {
			if
			:: registered[p] && !bound[p] && (got >= PENDING || lapsed) ->
				bound[p] = !M(NOT_BOUND);
				bound_to[p] = (M(NOT_BOUND) -> OLD : old[p]);
				blocking[p]++
			:: else
			fi;
			old[p] = OLD;
			lapsed = false
		};
		d_step { asked[p] = at[p]; changed = true }
	fi;
	d_step { at[p] = OLD; got = 0 }
}

/* List.Run of a proxy. */
proctype Renewals(byte p; byte times) {
	byte got;
	bool lapsed, changed;
	do
	:: d_step { times > 0 && !closed[p] -> times--; renewing[p] = true };
		if
		/* Without a lease the row is committed first. */
		:: d_step { (!has[p] || !good(p, asked[p])) && !M(RENEWED_UNLOCKED) -> there[p] = true; acked_row[p] = acked[p] }
		:: has[p] && good(p, asked[p]) || M(RENEWED_UNLOCKED)
		fi;
		ask(p, got, lapsed, changed);
		if
		:: changed && blocking[p] == 0 -> ask(p, got, lapsed, changed)
		:: !(changed && blocking[p] == 0)
		fi;
		atomic { changed = false; renewing[p] = false }
	:: atomic { times == 0 || closed[p] -> times = 0; break }
	od
}

/* List.Close. */
proctype Close(byte p) {
	BROKEN(FORGOTTEN_FIRST, there[p] = false);
	closed[p] = true;
	if
	:: d_step { !renewing[p] -> there[p] = false }
	fi
}

/* Flight.StillValid: two loads, and the clock. */
inline still_valid(f, it) {
	BROKEN(BOUND_FIRST, it = bound[f]);
	loaded[f] = asked[f];
	loaded[f] = ((M(BOUND_FIRST) -> it : bound[f]) -> bound_to[f] : loaded[f]);
	d_step { it = good(f, loaded[f]); loaded[f] = OLD; assert(F9 || !it || !waited) }
}

/* A write, by a proxy that looks whether its key is guarded. */
proctype Flight(byte f) {
	bool it, guarded;
	BROKEN(LOOKED_UP_FIRST, it = has[f] && good(f, asked[f]); guarded = list[f] >= PENDING);
	registered[f] = true;
	atomic {
		it = (M(LOOKED_UP_FIRST) -> it : has[f] && good(f, asked[f]));
		guarded = (M(LOOKED_UP_FIRST) -> guarded : list[f] >= PENDING);
		if
		:: !it -> goto over /* 503 */
		:: it && guarded ->
			/* Not a flight: a commit, which reads the guard. */
			registered[f] = false;
			blocking[f] = (bound[f] || M(NOT_BOUND) -> 0 : blocking[f]);
			bound[f] = false
		:: else
		fi
	};
	if
	:: guarded ->
		d_step {
			if
			:: version == ACTIVE || (M(COMMIT_BLIND) && version == PENDING) -> row = SEALED
			:: else
			fi
		};
		goto done
	:: else
	fi;
	still_valid(f, it);
	if
	:: it -> sent[f] = true
	:: else -> goto over
	fi;
	/* Answered by the store; or the proxy waits for ever, or stops. */
	landed[f];
	still_valid(f, it);
	if
	:: it || M(ANSWER_UNCHECKED) ->
		/* F6: what is acknowledged was there to be taken in. */
		assert(F6 || !copied || in_stock[f])
	:: else
	fi;
over:
	atomic { registered[f] = false; blocking[f] = (bound[f] || M(NOT_BOUND) -> 0 : blocking[f]); bound[f] = false; bound_to[f] = OLD };
done:
	atomic { it = false; guarded = false }
}

/* Admin.Add. */
proctype Add() {
	byte got;
	BROKEN(SINCE_EARLY, since = 0);
	version = PENDING;
	since = (M(SINCE_EARLY) -> since : 0);
	if
	:: M(NOT_WAITED)
	:: (!there[0] || acked_row[0] >= PENDING || M(ANY_ROW)) && (!there[1] || acked_row[1] >= PENDING)
	:: since >= LEASE
	fi;
	d_step { waited = true; since = OLD };
	/* What an earlier attempt left goes first. */
	d_step { assert(F6 || row != SEALED); row = NONE };
	d_step {
		got = plain;
		copied = true;
		in_stock[0] = landed[0];
		in_stock[1] = landed[1];
	};
	d_step { assert(F6 || row == NONE); row = got; got = 0 };
	version = ACTIVE
}

init {
	atomic {
		CHOOSE;
		run Clock();
		run Network();
		run Add();
		run Flight(1);
		/* Proxy 1 begins, and stops again, or proxy 0 runs beside it. */
		if
		:: run Renewals(1, 2); run Close(1)
		:: has[0] = true; there[0] = true;
			run Renewals(1, RENEWALS); run Renewals(0, RENEWALS); run Flight(0)
		fi
	}
}
