/* What Python code can tell callgrind: to write down what was counted since the last time. */

#include <valgrind/callgrind.h>

void dump(const char *name) {
    CALLGRIND_DUMP_STATS_AT(name);
}
