/* The counter and the marks: grants, raises by hand, releases, tokens and resets of
 * an external issuer, and a guard whose issuer changes. F1, F2, F8.
 *
 * Scope 0 lies under a guard that is external in the beginning, is removed and comes
 * back with tokens of s3fence's own. Scope 1 lies under another of s3fence's own. The
 * sequence is not transactional: what was drawn or lifted stays when a transaction
 * rolls back, and may be taken back by a crash unless something was committed since.
 */
#include "spec.pml"

#define DRAW_BEFORE_LOCK 1 /* F2: a token is drawn before the scope is locked */
#define DRAW_UNLOCKED 2 /* F2: a draw does not share the counter's lock */
#define LIFT_UNLOCKED 3 /* F2: a lift does not take it */
#define NOT_LIFTED 4 /* F2: a change of issuer leaves the counter alone */
#define HIGHEST_EARLY 5 /* F2: the highest mark is read before the guard is pending */
#define GUARD_NOT_LOCKED 6 /* F2: commits read the guard and do not lock it */
#define RAISE_NOT_LIFTED 7 /* F2: a raise by hand sets the mark and not the counter */
#define RELEASE_DELETES 8 /* F1: a release deletes the row */
#define REMOVAL_DELETES 9 /* F1: removing a guard deletes its scopes' rows */
#define SAME_GENERATION 10 /* F1: a reset begins no generation */
#define ANY_GENERATION 11 /* F8: a token counts in any generation */
#define CACHED_SEQUENCE 12 /* F2: each session takes two values of the sequence at once */
#define RAISED_LATER 13 /* F2: the mark is raised in a transaction after the grant's */

#define GRANTS 3
#define RAISE GRANTS
#define RELEASE (GRANTS + 1)
#define PRESENT (GRANTS + 2)
#define RESET (GRANTS + 3)
#define ADMIN (GRANTS + 4)
#define TXS (GRANTS + 5)
#define NOBODY 255

byte generation = 1, mark[2] = 1; /* scope 1 is never reset */
byte counter = 1, durable = 1;    /* where a crash takes the counter back to */
mtype = { external, removing, none, pending, own };
mtype guard = external; /* of scope 0, active where it is an issuer */

bool open[TXS];
byte guard_shares, guard_alone = NOBODY, scope_alone[2] = NOBODY, count_shares, count_alone = NOBODY;
bool shares_guard[TXS], shares_count[TXS];

bool granted[24]; /* tokens that were drawn and committed */
byte cached[2];   /* of CACHED_SEQUENCE, by proxy */

inline release(i) {
	open[i] = false;
	guard_shares = guard_shares - shares_guard[i];
	shares_guard[i] = false;
	guard_alone = (guard_alone == i -> NOBODY : guard_alone);
	scope_alone[0] = (scope_alone[0] == i -> NOBODY : scope_alone[0]);
	scope_alone[1] = (scope_alone[1] == i -> NOBODY : scope_alone[1]);
	count_shares = count_shares - shares_count[i];
	shares_count[i] = false;
	count_alone = (count_alone == i -> NOBODY : count_alone)
}

/* Sessions end by themselves; all of them in a crash. */
proctype Database() {
	byte i;
end:	do
	:: d_step { open[0] -> release(0) }
	:: d_step { open[1] -> release(1) }
	:: d_step { open[RAISE] -> release(RAISE) }
	:: d_step { open[PRESENT] -> release(PRESENT) }
	:: d_step { open[ADMIN] -> release(ADMIN) }
	:: d_step {
		counter > durable ->
		counter = durable;
		for (i : 0 .. TXS - 1) {
			if
			:: open[i] -> release(i)
			:: else
			fi
		};
		i = 0
	   }
	od
}

inline lock_guard(i, scope) {
	if
	:: d_step { scope == 0 && (guard_alone == NOBODY || M(GUARD_NOT_LOCKED)) && !shares_guard[i] ->
		open[i] = true; shares_guard[i] = !M(GUARD_NOT_LOCKED); guard_shares = guard_shares + shares_guard[i] }
	:: d_step { scope == 1 -> open[i] = true }
	fi
}

inline lock_guard_alone(i) {
	d_step { guard_alone == NOBODY && guard_shares == 0 -> open[i] = true; guard_alone = i }
}

/* What waits in the database waits no longer when its session has ended. */
inline lock_scope(i, scope) {
	d_step {
		!open[i] || scope_alone[scope] == NOBODY ->
		scope_alone[scope] = (open[i] -> i : scope_alone[scope])
	}
}

inline next(i, proxy, t) {
	d_step {
		!open[i] || M(DRAW_UNLOCKED) || M(DRAW_BEFORE_LOCK) || count_alone == NOBODY || count_alone == i ->
		if
		:: open[i] || M(DRAW_BEFORE_LOCK) ->
			if
			:: open[i] && count_alone != i && !M(DRAW_UNLOCKED) && !shares_count[i] -> shares_count[i] = true; count_shares++
			:: else
			fi;
			counter++;
			t = counter;
			BROKEN(CACHED_SEQUENCE, counter--;
				if
				:: cached[proxy] -> t = cached[proxy]; cached[proxy] = 0
				:: else -> t = counter + 1; counter = counter + 2; cached[proxy] = counter
				fi)
		:: else
		fi
	}
}

/* Look and step are one statement, and two moments. */
inline lift(i, to, seen) {
	d_step {
		!open[i] || M(LIFT_UNLOCKED) || (count_alone == NOBODY && count_shares == 0) ->
		count_alone = (open[i] && !M(LIFT_UNLOCKED) -> i : count_alone);
		seen = counter
	};
	d_step { counter = (open[i] && seen < to -> to : counter); seen = 0 }
}

#define owned(s) (s == 1 || guard == own)

/* The row's writing and COMMIT, for what has drawn a token. */
inline raise(i, scope, t) {
	d_step {
		if
		:: open[i] ->
			assert(F2 || t > mark[scope]); /* the alarm of locks.draw */
			assert(F2 || !granted[t]);
			assert(F2 || t <= counter);
			granted[t] = true;
			mark[scope] = t;
			durable = counter
		:: else
		fi;
		release(i)
	}
}

proctype Grant(byte i; byte scope; byte proxy) {
	byte t;
	BROKEN(DRAW_BEFORE_LOCK, next(i, proxy, t));
	lock_guard(i, scope);
	lock_scope(i, scope);
	if
	:: open[i] && !owned(scope) -> d_step { release(i) }
	:: else ->
		if
		:: M(DRAW_BEFORE_LOCK)
		:: !M(DRAW_BEFORE_LOCK) -> next(i, proxy, t)
		fi;
		BROKEN(RAISED_LATER, d_step { open[i] -> granted[t] = true; durable = counter; release(i) };
			lock_scope(i, scope); d_step { assert(F2 || t > mark[scope]); mark[scope] = t; release(i) });
		raise(i, scope, t)
	fi;
	t = 0
}

/* A raise by hand, to a number. */
proctype Raise(byte i; byte scope; byte to) {
	byte t, seen, by_hand = to;
	lock_guard(i, scope);
	lock_scope(i, scope);
	if
	:: open[i] && (!owned(scope) || to <= mark[scope]) -> d_step { release(i) }
	:: else ->
		BROKEN(RAISE_NOT_LIFTED, to = 0);
		lift(i, to, seen);
		next(i, 0, t);
		BROKEN(RAISE_NOT_LIFTED, t = by_hand);
		raise(i, scope, t)
	fi;
	t = 0
}

proctype Release(byte i; byte scope) {
	byte was;
	lock_guard(i, scope);
	lock_scope(i, scope);
	d_step {
		/* The row is written again without its lease. */
		was = mark[scope];
		mark[scope] = (open[i] && M(RELEASE_DELETES) -> 0 : mark[scope]);
		assert(F1 || mark[scope] >= was);
		was = 0;
		release(i)
	}
}

/* The first request under an external token. */
proctype Present(byte i; byte to; byte named) {
	lock_guard(i, 0);
	lock_scope(i, 0);
	if
	/* The guard is read here, and the commit is a moment later. */
	:: open[i] && guard == external && (named == generation || M(ANY_GENERATION)) && to > mark[0] ->
		d_step {
			if
			:: open[i] ->
				assert(F8 || named == generation);
				assert(F1 || to > mark[0]);
				mark[0] = to;
				assert(F2 || guard != own || counter >= mark[0]);
				durable = counter
			:: else
			fi;
			release(i)
		}
	:: else -> d_step { release(i) }
	fi
}

/* The issuer's numbers start over. */
proctype Reset(byte i) {
	lock_guard(i, 0);
	lock_scope(i, 0);
	d_step {
		if
		:: open[i] && guard == external ->
			generation = generation + !M(SAME_GENERATION);
			assert(F1 || generation > 1);
			mark[0] = 0;
			durable = counter
		:: else
		fi;
		release(i)
	}
}

inline change(i, from, to) {
	lock_guard_alone(i);
	d_step {
		if
		:: open[i] && guard == from -> guard = to; durable = counter
		:: else
		fi;
		release(i)
	}
}

/* The guard is removed and added with tokens of s3fence's own. It is tried again
 * where a session ended. */
proctype Admin(byte i) {
	byte highest, seen;
	do
	:: guard == external -> change(i, external, removing)
	:: guard == removing ->
		change(i, removing, none);
		BROKEN(REMOVAL_DELETES, mark[0] = 0; assert(F1 || mark[0]))
	:: guard == none ->
		BROKEN(HIGHEST_EARLY, highest = mark[0]);
		change(i, none, pending)
	:: guard == pending ->
		/* No lock: while it is pending no mark moves. */
		highest = (M(HIGHEST_EARLY) || M(NOT_LIFTED) -> highest : mark[0]);
		lock_guard_alone(i);
		lift(i, highest, seen);
		d_step {
			if
			:: open[i] ->
				guard = own;
				assert(F2 || counter >= mark[0]);
				durable = counter
			:: else
			fi;
			release(i);
			highest = 0
		}
	:: guard == own -> break
	od
}

init {
	atomic {
		CHOOSE;
		run Database();
		run Grant(0, 1, 0);
		run Grant(1, 0, 1);
		run Present(PRESENT, 5, 1);
		run Admin(ADMIN);
#ifdef LARGE
		run Release(RELEASE, 0);
		run Reset(RESET);
#endif
		if
		:: run Raise(RAISE, 1, 4)
		:: run Raise(RAISE, 0, 7)
		:: run Grant(2, 1, 1)
#ifndef LARGE
		:: run Release(RELEASE, 0)
		:: run Reset(RESET)
#endif
		fi
	}
}
