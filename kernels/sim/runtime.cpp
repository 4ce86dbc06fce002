// The two variables that the scheduler sets; once in a program.
#include "cuda.h"

extern "C" {
__thread SimThread* sim_self = nullptr;
SimHooks sim_hooks = {nullptr, nullptr};

// Where the calling operating-system thread keeps `sim_self`.
SimThread** sim_self_slot() { return &sim_self; }
}
