/* What the models share: the names of the invariants, and the broken variants.
 *
 * An invariant is asserted as assert(F4 || condition). The variables are never
 * true in the model itself: they put the number into Spin's message.
 *
 * A broken variant ("mutant") is a number, and M(number) stands where it differs.
 * The model as it is checked is compiled without any of them: M is false there, and
 * BROKEN, which is for whole statements, does nothing. With -DMUTANTS
 * the verifier takes the mutant from the environment, and the one invariant that it
 * is to break: all others are waived, so that none is broken in another's place.
 */
bool F1, F2, F3, F4, F5, F6, F7, F8, F9, F10;

#ifdef MUTANTS
byte mutant;
#define M(n) (mutant == n)
c_decl {
	\#include <stdlib.h>
	static int number(const char *name) { const char *s = getenv(name); return s ? atoi(s) : 0; }
}
#define CHOOSE c_code { \
	int f = number("BREAKS"); \
	now.mutant = number("MUTANT"); \
	now.F1 = f != 1; now.F2 = f != 2; now.F3 = f != 3; now.F4 = f != 4; now.F5 = f != 5; \
	now.F6 = f != 6; now.F7 = f != 7; now.F8 = f != 8; now.F9 = f != 9; now.F10 = f != 10; \
}
#define BROKEN(n, statement) if :: M(n) -> statement :: else fi
#else
#define M(n) false
#define BROKEN(n, statement) skip
#define CHOOSE skip
#endif

#define max(a, b) ((a) > (b) -> (a) : (b))
