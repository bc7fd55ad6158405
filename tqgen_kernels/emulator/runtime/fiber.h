// Switching between the stacks of threads: callee-saved registers only.
#pragma once

// Saves the running stack in *from and continues `to`.
extern "C" void tq_switch(void** from, void* to);
// First frame of a new stack; calls tq_fiber_main, which never returns.
extern "C" void tq_fiber_start();

#ifdef __APPLE__
#define SYMBOL(name) "_" #name
#define FUNCTION(name) ".globl _" #name "\n.p2align 4\n_" #name ":\n"
#else
#define SYMBOL(name) #name
#define FUNCTION(name) ".globl " #name "\n.hidden " #name "\n.p2align 4\n" #name ":\n"
#endif

#if defined(__x86_64__)
enum { saved_words = 7, start_word = 6 };  // rbx rbp r12-r15, return address
__asm__(".text\n" FUNCTION(tq_switch) R"(
  pushq %rbp
  pushq %rbx
  pushq %r15
  pushq %r14
  pushq %r13
  pushq %r12
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r12
  popq %r13
  popq %r14
  popq %r15
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
)" FUNCTION(tq_fiber_start) R"(
  xorl %ebp, %ebp
  andq $-16, %rsp
  call )" SYMBOL(tq_fiber_main) R"(
  ud2
)");
#elif defined(__aarch64__)
enum { saved_words = 20, start_word = 11 };  // x19-x30, d8-d15
__asm__(".text\n" FUNCTION(tq_switch) R"(
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x2, sp
  str x2, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  br x30
)" FUNCTION(tq_fiber_start) R"(
  bl )" SYMBOL(tq_fiber_main) R"(
  brk #1
)");
#else
#error "the emulator runs on x86-64 and arm64"
#endif
