// The whole runtime is one translation unit: it is compiled once on each machine.
#include "launch.cpp"
#include "memory.cpp"
#include "numeric.cpp"
#include "sanitizers.cpp"
#include "scheduler.cpp"
#include "shadow.cpp"
#include "signals.cpp"
