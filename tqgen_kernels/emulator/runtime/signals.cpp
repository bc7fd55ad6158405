// Traps of the processor and the end of a launch's time, turned into findings.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ucontext.h>
#include <time.h>
#include <unistd.h>

#include "runtime.h"

extern uint64_t last_access_pc;

namespace {
const int traps[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
enum { n_traps = 4, alternate_bytes = 64 << 10 };
struct sigaction previous[n_traps + 1];
char* alternate;
pthread_t launching;
volatile double deadline;  // of CLOCK_MONOTONIC, 0: none
pid_t watchdog_owner;

double now() {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void registers(void* context, uint64_t* pc, uint64_t* sp) {
  ucontext_t* c = (ucontext_t*)context;
#if defined(__APPLE__) && defined(__aarch64__)
  *pc = c->uc_mcontext->__ss.__pc;
  *sp = c->uc_mcontext->__ss.__sp;
#elif defined(__APPLE__)
  *pc = c->uc_mcontext->__ss.__rip;
  *sp = c->uc_mcontext->__ss.__rsp;
#elif defined(__aarch64__)
  *pc = c->uc_mcontext.pc;
  *sp = c->uc_mcontext.sp;
#else
  *pc = (uint64_t)c->uc_mcontext.gregs[REG_RIP];
  *sp = (uint64_t)c->uc_mcontext.gregs[REG_RSP];
#endif
}

bool in_kernel(uint64_t pc) { return pc >= launch.text_begin && pc < launch.text_end; }

// Inside a library function or the runtime, the kernel's own place is a return address above.
uint64_t kernel_pc(uint64_t pc, uint64_t sp, bool stack_is_whole) {
  if (in_kernel(pc) || !stack_is_whole) return pc;
  const uint64_t* word = (const uint64_t*)(sp & ~7ull);
  uint64_t end = (sp | (stack_bytes - 1)) & ~7ull;
  for (int i = 0; i < 512 && (uint64_t)(word + i) < end; ++i)
    if (in_kernel(word[i])) return word[i] - 1;
  return last_access_pc;
}

void describe_address(Finding* f, uint64_t address) {
  uint64_t offset = address - (uint64_t)region;
  if (offset >= region_bytes) return;
  uint32_t slot = (uint32_t)(offset >> slot_shift);
  f->kind = out_of_bounds;
  locate(f, slot, (int64_t)address - (int64_t)slots[slot].start);
}

void on_trap(int signal, siginfo_t* info, void* context) {
  if (!running || !pthread_equal(pthread_self(), launching)) {
    // Not a kernel's: let whoever was there before have it when the instruction runs again.
    for (int i = 0; i < n_traps; ++i)
      if (traps[i] == signal) sigaction(signal, &previous[i], nullptr);
    return;
  }
  uint64_t pc, sp, address = (uint64_t)info->si_addr;
  registers(context, &pc, &sp);
  bool overflow = signal != SIGFPE && on_stack_guard(address);
  pc = kernel_pc(pc, sp, !overflow);
  Kind kind = signal == SIGFPE ? division_by_zero : overflow ? stack_overflow : wild_access;
  if (signal == SIGILL) kind = crash;
#if defined(__x86_64__) && defined(__linux__)
  // The processor demands the alignment of a vector, and reports no address when it is missing.
  if (signal == SIGSEGV && info->si_code == SI_KERNEL) kind = misaligned;
#endif
  if (Finding* f = report(kind, pc, 0, (uint32_t)address)) {
    if (kind == wild_access) {
      f->index = (int64_t)address;
      describe_address(f, address);
#if defined(__x86_64__) && defined(__linux__)
      f->detail = ((ucontext_t*)context)->uc_mcontext.gregs[REG_ERR] & 2 ? is_write : none;
#endif
    }
  }
  stop_launch();
}

void on_deadline(int, siginfo_t*, void* context) {
  if (!running || !deadline || now() < deadline) return;
  deadline = 0;
  uint64_t pc, sp;
  registers(context, &pc, &sp);
  // Inside an atomic operation the address has no line of its own.
  if (Finding* f = report(hang, kernel_pc(pc, sp, true), 0, 0)) f->line = last_atomic_line;
  stop_launch();
}

void* watch(void*) {
  for (;;) {
    struct timespec pause = {0, 20 * 1000 * 1000};
    nanosleep(&pause, nullptr);
    if (running && deadline && now() > deadline) pthread_kill(launching, SIGURG);
  }
  return nullptr;
}

void start_watchdog() {
  if (watchdog_owner == getpid()) return;  // a forked child has no threads but its own
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  pthread_t thread;
  if (pthread_create(&thread, nullptr, watch, nullptr) == 0) {
    pthread_detach(thread);
    watchdog_owner = getpid();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}
stack_t previous_stack;
}  // namespace

bool watch_signals() {
  if (!alternate) {
    void* p = mmap(0, alternate_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANON, -1, 0);
    if (p == MAP_FAILED) return false;
    alternate = (char*)p;
  }
  stack_t stack = {};
  stack.ss_sp = alternate;
  stack.ss_size = alternate_bytes;
  sigaltstack(&stack, &previous_stack);
  launching = pthread_self();
  struct sigaction action = {};
  action.sa_sigaction = on_trap;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  for (int i = 0; i < n_traps; ++i) sigaction(traps[i], &action, &previous[i]);
  if (launch.timeout > 0) {
    start_watchdog();
    action.sa_sigaction = on_deadline;
    sigaction(SIGURG, &action, &previous[n_traps]);
    deadline = now() + launch.timeout;
  }
  return true;
}

void unwatch_signals() {
  deadline = 0;
  for (int i = 0; i < n_traps; ++i) sigaction(traps[i], &previous[i], nullptr);
  if (launch.timeout > 0) sigaction(SIGURG, &previous[n_traps], nullptr);
  sigaltstack(&previous_stack, nullptr);
}
