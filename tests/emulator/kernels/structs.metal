// Variables that are reached through structs, captures and pointers kept elsewhere.

//: captured_by_reference_and_added_to uninitialised-read space=thread buffer=n
int n;
auto add = [&](int k) { n += k; }; // FAULT
add(1);
out[i] = n; // ALSO

//: captured_by_reference_and_read uninitialised-read space=thread buffer=n
uint n;
auto get = [&]() { return n; }; // FAULT
out[i] = get();

//: captured_by_value uninitialised-read space=thread
int n;
auto get = [n]() { return n; }; // FAULT
out[i] = get();

//: struct_that_a_function_returns uninitialised-read space=thread buffer=s
struct S { int a; int b; };
S make() { S s; s.a = 1; return s; }
//: kernel
S s = make();
out[i] = s.a + s.b; // FAULT

//: struct_that_a_function_fills_in_part uninitialised-read space=thread buffer=s
struct S { int a; int b; };
void fill(thread S* s) { s->a = 2; }
//: kernel
S s;
fill(&s);
out[i] = s.a + s.b; // FAULT

//: last_struct_of_an_array uninitialised-read space=thread buffer=s
struct S { int a; int b; };
//: kernel
S s[3];
for (int k = 0; k < 2; ++k) { s[k].a = k; s[k].b = k; }
int r = 0;
for (int k = 0; k < 3; ++k) r += s[k].a; // FAULT
out[i] = r;

//: member_function_before_the_reset uninitialised-read space=thread buffer=a
struct Sum {
  int total;
  void reset() thread { total = 0; }
  void add(float v) thread { total += int(v); }
};
//: kernel
Sum a;
if (i > 99) a.reset();
a.add(x[i]);
out[i] = a.total;

//: array_behind_a_pointer_in_a_struct uninitialised-read space=thread buffer=v
struct View { thread int* p; int n; };
//: kernel
int v[4];
View w{v, 4};
w.p[0] = 1;
out[i] = w.p[2]; // FAULT

//: past_an_array_behind_a_pointer_in_a_struct out-of-bounds space=thread buffer=v index=4
struct View { thread int* p; int n; };
//: kernel
int v[4] = {1, 2, 3, 4};
View w{v, 4};
out[i] = w.p[4 + t / 64]; // FAULT

//: past_a_captured_array out-of-bounds space=thread index=4
float a[4] = {1, 2, 3, 4};
auto at = [&](uint k) { return a[k]; }; // FAULT
out[i] = at(4 + t / 64);

//: larger_than_a_stack stack-overflow
float big[40000];
for (int k = 0; k < 40000; ++k) big[k] = x[i] + k; // ALSO
out[i] = big[int(x[i])];

//: larger_than_a_stack_beside_others stack-overflow
float big[40000];
for (int k = 0; k < 40000; ++k) big[k] = x[i] + k; // ALSO
threadgroup_barrier(mem_flags::mem_threadgroup);
out[i] = big[int(x[i])];

//: captured_and_written_first correct
int n;
float a[2] = {1, 2};
auto set = [&](int k) { n = k; };
auto get = [&](int k) { return a[k] + n; };
set(3);
out[i] = get(1);

//: pointers_in_a_struct_are_exchanged correct
struct Two { thread float* a; thread float* b; };
//: kernel
float v[2] = {1, 2}, w[3] = {3, 4, 5};
Two two = {v, w};
thread float* c = two.a;
two.a = two.b;
two.b = c;
out[i] = two.a[2] + two.b[1];

//: struct_holds_a_moving_pointer correct
struct Cursor { thread float* p; void next() thread { ++p; } };
//: kernel
float v[4] = {1, 2, 3, 4};
Cursor c{v};
float s = 0;
for (int k = 0; k < 4; ++k) { s += *c.p; if (k < 3) c.next(); }
out[i] = s;

//: struct_with_a_pointer_is_copied correct
struct View { thread float* p; int n; };
float total(View v) { float s = 0; for (int k = 0; k < v.n; ++k) s += v.p[k]; return s; }
//: kernel
float v[3] = {1, 2, 3};
View a{v, 3}, b = a;
b.p += 1;
b.n = 2;
out[i] = total(a) + total(b);

//: whole_struct_is_returned correct
struct S { int a; int b; };
S make(int k) { S s; s.a = k; s.b = 2 * k; return s; }
//: kernel
S s = make(2), r = make(3);
s = r;
out[i] = s.a + s.b;

//: bit_fields_are_written_one_by_one correct
struct Bits { uint low : 4; uint high : 4; };
//: kernel
Bits b;
b.low = i & 15;
b.high = 3;
out[i] = b.low + b.high;

//: one_of_two_arrays_in_part uninitialised-read space=thread
int a[2], b[2];
a[0] = 1; a[1] = 1; b[0] = 1;
thread int* p = t % 2 ? a : b;
out[i] = p[1]; // FAULT

//: past_one_of_two_arrays out-of-bounds space=thread index=2
float a[2] = {1, 2}, b[3] = {3, 4, 5};
thread float* p = t % 2 ? a : b;
out[i] = p[2]; // FAULT

//: past_one_of_three_structs out-of-bounds space=thread index=1
struct S { float v[4]; };
//: kernel
S a = {{1, 2, 3, 4}}, b = a, c = b;
thread S* p = t % 2 ? &a : t % 3 ? &b : &c;
out[i] = p->v[0] + (&p->v[0])[t / 63 * 4]; // FAULT

//: one_of_two_arrays_of_different_length correct
float a[2] = {1, 2}, b[3] = {3, 4, 5};
thread float* p = t % 2 ? a : b;
out[i] = p[t % 2 ? 1 : 2];

//: written_through_one_of_two correct
int a, b;
thread int* p = t % 2 ? &a : &b;
*p = 1;
out[i] = t % 2 ? a : b;

//: one_of_two_structs_is_pointed_elsewhere correct
struct View { thread float* p; };
//: kernel
float v[2] = {1, 2}, w[5] = {3, 4, 5, 6, 7};
View a{v}, b{v};
thread View* c = t % 2 ? &a : &b;
c->p = w;
out[i] = (t % 2 ? a : b).p[4] + (t % 2 ? b : a).p[1];

//: chosen_in_a_loop correct
float a[4] = {1, 2, 3, 4}, b[4];
thread float *from = a, *to = b;
for (int k = 0; k < 3; ++k) {
  for (int j = 0; j < 4; ++j) to[j] = from[(j + 1) % 4];
  thread float* c = from;
  from = to;
  to = c;
}
out[i] = from[0];
