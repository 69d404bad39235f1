/* The fence: grants, writes, tries of one named request, and reads of one scope,
 * over a database that ends sessions and loses answers. F1 to F8 and F10.
 * docs/model.md says which code each step stands for.
 *
 * Every process may stop at every step for ever: nobody waits for another process
 * but in the database, which ends sessions by itself. So freezes and crashes need
 * no steps of their own. A body lies under a name of its own before its write
 * begins and nobody reads it; sending it is time that passes, and no step either.
 */
#include "spec.pml"

/* The broken variants. */
#define NO_RAISE 1 /* F4: a grant leaves the mark alone once there was one */
#define COMPARE_BEFORE_LOCK 2 /* F4: the mark is read before the scope is locked */
#define ROW_BEFORE_LOCK 3 /* F10: lock and row in one statement: a snapshot from before the wait */
#define KEYS_NOT_LOCKED 4 /* F10: commits lock no keys */
#define CONDITION_EARLY 5 /* F10: conditions are decided before the transaction */
#define LOCK_UPGRADED 6 /* F1: shared is given up for exclusive, and what was read is kept */
#define RAISE_SHARED 7 /* F4: an external token raises under the shared lock */
#define GRANT_SHARED 8 /* F4: a grant takes the shared lock */
#define OUTCOME_BY_ROW 9 /* F7: a lost answer is judged by looking at the object */
#define LOST_IS_FAILED 10 /* F7: a lost answer is answered 503 */
#define VERDICT_NOT_KEPT 11 /* F7: "aborted" is answered and not written */
#define AT_MOST 12 /* F7: <= for <: the mark's own token is stale */
#define READ_NO_RAISE 13 /* F4: a first fenced read leaves the mark alone */
#define READ_CACHED 14 /* F5: pointers are remembered */
#define READ_UNJUDGED 15 /* F3: a read is answered whatever its token */
#define NAME_NOT_LOCKED 16 /* F7: two tries to two keys have no lock in common */
#define ANSWER_UNJUDGED 17 /* F4: a retry under another token is answered as it is */
#define LEARN_EARLY 18 /* F7: a mark is remembered before its commit is known */

/* Those that show with an external issuer alone are not looked for elsewhere. */
#define EXTERNAL_ALONE (M(LOCK_UPGRADED) || M(RAISE_SHARED) || M(READ_NO_RAISE) || M(ANSWER_UNJUDGED) || M(LEARN_EARLY))

#ifdef LARGE
#define WRITES 4
#else
#define WRITES 3
#endif
#define GRANT WRITES     /* the slots of two grants */
#define READ (WRITES + 2)
#define TXS (WRITES + 3)
#define NOBODY 255

/* The state database. Versions count an object's changes. A delete is a change like
 * a put, and an object that is absent a version like others: locks are on names. */
byte mark = 1, counter = 1;
byte version[2] = 1, token_of[2] = 1;
byte record, record_token, record_key, record_version; /* of the named request */

#define FREE 0
#define OPEN 1
#define SENT 2 /* the second flush is on its way, or lost */
#define DONE 3
#define GONE 4 /* rolled back */
byte st[TXS];
bool aborted[TXS]; /* the verdict that somebody wrote down for it */

/* Locks: how many share the scope, and who has what alone. */
byte sharing, alone = NOBODY, key_of[2] = NOBODY, name_of = NOBODY;
bool shares[TXS];

/* What the transactions are. */
byte tok[TXS], raises_to[TXS]; /* 0: the mark is left alone */
bool writes[TXS], named[2], conditional[WRITES]; /* If-Match, or If-None-Match, of version 1 */
byte other_key;                                  /* where the second try writes to */
#define named_(i) (i < 2 && named[i])
#define key_(i) (i == 1 -> other_key : 0)
#define met(i) (!conditional[i] || version[key_(i)] == 1)

byte token[2]; /* of each client; 0: none yet */
bool external; /* who issues them */
byte known[2]; /* the mark as each of two proxies remembers it */

/* What was promised, and what became of it. */
byte floor;          /* the highest token that was granted or answered under */
byte answered[2];    /* the last version whose write was answered with success */
byte effect[WRITES]; /* the version that a write made, until its answer */
bool refused[TXS];   /* it was answered that it did not take effect and never will */
byte effects;        /* of the named request */

inline release(i) {
	sharing = sharing - shares[i];
	shares[i] = false;
	alone = (alone == i -> NOBODY : alone);
	key_of[0] = (key_of[0] == i -> NOBODY : key_of[0]);
	key_of[1] = (key_of[1] == i -> NOBODY : key_of[1]);
	name_of = (name_of == i -> NOBODY : name_of);
	/* What is not looked at any more makes no difference between states. */
	tok[i] = (st[i] == DONE -> tok[i] : 0);
	raises_to[i] = 0;
	writes[i] = false;
	refused[i] = false;
	aborted[i] = aborted[i] && st[i] != GONE
}

/* The second flush arrives: the outcome, the writes, COMMIT. */
inline land(i) {
	if
	:: aborted[i] -> st[i] = GONE
	:: else ->
		st[i] = DONE;
		assert(F1 || raises_to[i] == 0 || raises_to[i] >= mark);
		mark = (raises_to[i] -> raises_to[i] : mark);
		if
		:: writes[i] ->
			assert(F4 || tok[i] >= floor);
			assert(F3 || tok[i] >= mark);
			assert(F6 || tok[i] >= token_of[key_(i)]);
			assert(F10 || met(i));
			assert(F7 || !refused[i]);
			version[key_(i)]++;
			effect[i] = version[key_(i)];
			token_of[key_(i)] = tok[i];
			if
			:: named_(i) ->
				effects++;
				assert(F7 || effects == 1);
				record = true;
				record_token = tok[i];
				record_key = key_(i);
				record_version = effect[i]
			:: else
			fi
		:: else
		fi
	fi;
	release(i)
}

/* A session of the database, apart from whoever opened it. */
proctype Session(byte i) {
end:	do
	:: d_step { st[i] == SENT -> land(i) }
	/* Idle for too long, in somebody's way, cut off, crashed. */
	:: d_step { st[i] == OPEN || st[i] == SENT -> st[i] = GONE; release(i) }
	od
}

/* begin takes the scope's lock, when it can be had. */
inline begin(i, exclusive) {
	if
	:: d_step { !exclusive && alone == NOBODY -> st[i] = OPEN; sharing++; shares[i] = true }
	:: d_step { exclusive && alone == NOBODY && sharing == 0 -> st[i] = OPEN; alone = i }
	fi
}

inline rollback(i) {
	if
	:: st[i] == OPEN -> st[i] = GONE; release(i)
	:: else
	fi
}

/* commit sends the second flush and learns what came of it, or does not. */
#define YES 1
#define NO 2
inline commit(i, verdict) {
	st[i] = (st[i] == OPEN -> SENT : st[i]);
	if
	:: atomic { st[i] == DONE -> verdict = YES }
	:: d_step { /* the answer is lost, before or after the end; somebody writes "aborted" */
		verdict = (st[i] == DONE -> YES : NO);
		aborted[i] = st[i] == SENT && !M(VERDICT_NOT_KEPT) && !M(LOST_IS_FAILED) && !M(OUTCOME_BY_ROW);
		verdict = (M(LOST_IS_FAILED) -> NO : verdict)
	   }
	:: verdict = 0 /* not found out in time: 504, which promises nothing */
	fi
}

inline failed(i) {
	assert(F7 || !effect[i]);
	refused[i] = st[i] == SENT;
	goto over
}

/* A write, over one of two proxies. */
proctype Write(byte i; byte client; byte proxy) {
	byte m, to, verdict, made;
	bool x, ok, before, again;
end:	atomic {
		token[client] -> tok[i] = token[client];
		m = mark;
		ok = met(i);
		if
		:: !named_(i) && tok[i] < known[proxy] -> /* refused without asking */
			assert(F7 || tok[i] < mark);
			failed(i)
		:: else
		fi;
		x = external && tok[i] > known[proxy];
		if
		:: x -> x = false /* one of many of a batch delete, after the first */
		:: skip
		fi
	};
	do
	:: begin(i, x);
		/* A statement that locks and reads looks at a moment before its wait. */
		BROKEN(ROW_BEFORE_LOCK, ok = met(i));
		if
		:: d_step { st[i] == OPEN && (key_of[key_(i)] == NOBODY || M(KEYS_NOT_LOCKED)) -> key_of[key_(i)] = i }
		:: st[i] == GONE
		fi;
		if
		:: d_step { named_(i) && st[i] == OPEN && (name_of == NOBODY || M(NAME_NOT_LOCKED)) -> name_of = i }
		:: !named_(i) || st[i] == GONE
		fi;
		/* The statements behind the locks, and Decide. */
		atomic {
			if
			:: st[i] == GONE -> failed(i)
			:: else
			fi;
			m = (M(COMPARE_BEFORE_LOCK) || (M(LOCK_UPGRADED) && again) -> m : mark);
			ok = (M(ROW_BEFORE_LOCK) || M(CONDITION_EARLY) -> ok : met(i));
			before = named_(i) && record;
			if
			:: before && record_key != key_(i) -> rollback(i); failed(i) /* 422 */
			:: before && record_key == key_(i) && (record_token == tok[i] || M(ANSWER_UNJUDGED)) ->
				/* The answer of the first try, whatever happened since. */
				made = record_version;
				rollback(i);
				goto success
			:: else
			fi;
			if
			:: tok[i] < m || (M(AT_MOST) && tok[i] == m) ->
				assert(F7 || tok[i] < mark);
				rollback(i);
				failed(i)
			:: else
			fi;
			assert(F8 || external || tok[i] == m);
			to = (tok[i] > m -> tok[i] : 0);
			again = to && !x;
			if
			:: again && !M(RAISE_SHARED) ->
				/* Modes are never upgraded: begin again. */
				x = true;
				verdict = tok[i];
				rollback(i);
				tok[i] = verdict;
				verdict = 0
			:: else -> break
			fi
		}
	od;
	atomic {
		raises_to[i] = (st[i] == OPEN -> to : 0);
		writes[i] = st[i] == OPEN && ok && !before;
		if
		:: !(ok && !before) && to == 0 ->
			rollback(i);
			if
			:: before -> made = record_version; goto success
			:: else -> failed(i)
			fi
		:: else
		fi;
		known[proxy] = (M(LEARN_EARLY) -> max(known[proxy], to) : known[proxy])
	};
	commit(i, verdict);
	atomic {
		BROKEN(OUTCOME_BY_ROW, verdict = (verdict && !effect[i] -> NO : verdict));
		if
		:: verdict == YES ->
			known[proxy] = max(known[proxy], tok[i]);
			made = (before -> record_version : effect[i]);
			if
			:: made
			:: else -> failed(i)
			fi
		:: verdict == NO -> failed(i)
		:: else -> goto over
		fi
	};
success:
	atomic {
		assert(F7 || made);
		floor = max(floor, token[client]);
		answered[key_(i)] = max(answered[key_(i)], made)
	};
over:
	atomic {
		tok[i] = (st[i] == SENT -> tok[i] : 0);
		effect[i] = 0;
		m = 0; to = 0; verdict = 0; made = 0; x = 0; ok = 0; before = 0; again = 0
	}
}

/* A lock is granted; whether somebody holds it makes no difference to the fence. */
proctype Grant(byte i; byte client) {
	byte verdict;
	begin(i, !M(GRANT_SHARED));
	d_step {
		/* Drawn; and F2 is the alarm of locks.draw. */
		counter++;
		tok[i] = (st[i] == OPEN -> counter : 0);
		assert(F2 || st[i] != OPEN || tok[i] > mark);
		raises_to[i] = (M(NO_RAISE) && mark > 1 -> 0 : tok[i])
	};
	commit(i, verdict);
	d_step {
		if
		:: verdict == YES -> token[client] = tok[i]; floor = max(floor, tok[i])
		:: else
		fi;
		tok[i] = 0;
		verdict = 0
	}
}

/* A read that carries a token. */
proctype Read(byte i; byte client) {
	byte m, got, want, verdict;
	bool cached;
	BROKEN(READ_CACHED, got = version[0]; cached = true);
end:	d_step { token[client] -> tok[i] = token[client]; want = answered[0] };
	do
	:: atomic {
			/* One snapshot, of mark and row. */
			m = mark;
			got = (cached -> got : version[0]);
			if
			:: token[client] < m && !M(READ_UNJUDGED) -> goto over
			:: else
			fi;
			assert(F3 || token[client] >= mark);
			if
			:: token[client] <= m || M(READ_NO_RAISE) -> break
			:: else
			fi
		};
		/* The first request under its token: the mark first, then the read. */
		begin(i, true);
		d_step {
			tok[i] = token[client];
			raises_to[i] = (token[client] > mark -> token[client] : 0)
		};
		commit(i, verdict);
		if
		:: verdict == YES -> verdict = 0
		:: else -> goto over
		fi
	od;
	atomic { assert(F5 || got >= want); floor = max(floor, token[client]) };
over:
	atomic { tok[i] = 0; m = 0; got = 0; want = 0; verdict = 0 }
}

init {
	byte i;
	atomic {
		CHOOSE;
		for (i : 0 .. TXS - 1) { run Session(i) };
		i = 0;
		if
		:: !EXTERNAL_ALONE -> run Grant(GRANT, 0); run Grant(GRANT + 1, 1)
		:: external = true; token[0] = 2; token[1] = 3
		fi;
		/* Two requests, or two tries of one. */
		if
		:: conditional[0] = true
		:: skip
		fi;
		if
		:: other_key = 1
		:: skip
		fi;
		run Write(0, 0, 0);
		if
		:: !M(ANSWER_UNJUDGED) -> conditional[1] = true; run Write(1, 0, 0); run Read(READ, 1)
		:: !M(ANSWER_UNJUDGED) -> run Write(1, 1, 0); run Read(READ, 1)
		:: named[0] = true; named[1] = true; conditional[1] = conditional[0];
			if
			:: run Write(1, 0, 1); run Read(READ, 1)
			:: run Write(1, 1, 1); run Write(2, 0, 0)
			fi
		fi
#ifdef LARGE
		;
		run Write(3, 1, 0)
#endif
	}
}
