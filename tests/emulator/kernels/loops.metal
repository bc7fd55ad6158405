// Short kernels whose threads never wait: each place in them is checked by ranges.

//: groups_write_the_same_elements race threads=128 size=128
out[t] = x[i]; // FAULT

//: one_thread_writes_its_neighbours_element race
out[i] = x[i]; // ALSO
if (t == 5) out[4] = 1; // FAULT

//: a_later_group_writes_behind_the_run race threads=128 size=128 out_size=128
out[i] = x[i]; // ALSO
if (i == 100) out[7] = 1; // FAULT

//: reads_what_the_thread_before_wrote race threads=128 size=128 out_size=128
out[i] = x[i]; // ALSO
float v = out[max(i, 1u) - 1]; // FAULT
if (v > 1e9f) out[i] = 0;

//: reads_before_the_next_thread_writes race
float v = out[min(i + 1, 63u)]; // ALSO
out[i] = v + x[i]; // FAULT

//: half_of_the_threads_share_an_element race
out[i / 2] = x[i]; // FAULT

//: run_goes_past_the_end out-of-bounds threads=100 size=128 space=device buffer=out index=64
out[i] = x[i]; // FAULT

//: input_is_left_behind_its_end out-of-bounds threads=128 size=128 out_size=128 space=device buffer=x index=1100
uint far = i == 100 ? 1000 : 0;
out[i] = x[i + far]; // FAULT

//: input_is_left_before_its_start out-of-bounds space=device buffer=x index=-1
int before = i == 40 ? -41 : 0;
out[i] = x[int(i) + before]; // FAULT

//: one_element_is_forgotten unwritten-output soft=True init=None
if (i != 13) out[i] = x[i];

//: group_in_the_middle_writes_nothing unwritten-output soft=True init=None threads=256 size=256 out_size=256
if (i < 64 || i >= 128) out[i] = x[i];

//: two_places_take_turns correct out_size=128
out[2 * i] = x[i];
out[2 * i + 1] = -x[i];

//: written_twice_by_its_thread correct threads=200 size=256 out_size=200
out[i] = x[i];
out[i] = out[i] + 1;

//: in_reverse correct threads=200 size=256 out_size=200
out[199 - i] = x[i];

//: two_halves_of_the_output correct threads=128 size=128 out_size=256
out[i] = x[i];
out[i + 128] = x[i];

//: ragged_last_group correct threads=150 size=160 out_size=150
out[i] = x[i];

//: some_threads_return_early correct threads=256 size=256 out_size=250
if (i >= 250) return;
out[i] = x[i];
