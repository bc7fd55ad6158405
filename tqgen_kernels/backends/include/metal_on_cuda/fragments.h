// templates/include/fragment.h on tensor cores, whose instructions have 16 rows: one for a block of
// 16 x 16 by 16 x 8. A lane holds row lane / 4, elements 2 * (lane % 4) and the next.

#define FRAGMENT_ROW(lane) ((lane) / 4)
#define FRAGMENT_PAIR(lane) ((lane) % 4)
#define FRAGMENT_STEP(i) (4 << (i))

// Threadgroup memory as numbers of another type: casts have no address spaces here.
#define THREADGROUP_AS(type, memory) ((type*)(memory))

namespace metal {

// One instruction, which takes one constant: the compiler would rather have two with one each.
inline uint and_or(uint x, uint mask, uint bits) {
  uint out;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;" : "=r"(out) : "r"(x), "r"(mask), "r"(bits));
  return out;
}

// The instruction wants a lane's two elements of one column.
inline vec<__half, 2> right_operand(vec<__half, 2> b) {
  uint out;
  asm("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(out) : "r"(as_type<uint>(b)));
  return as_type<vec<__half, 2>>(out);
}

// (upper; lower) += (a00 a01; a10 a11) (b0; b1)
inline void multiply_block(
    vec<float, 2>& upper, vec<float, 2>& lower, vec<__half, 2> a00, vec<__half, 2> a01,
    vec<__half, 2> a10, vec<__half, 2> a11, vec<__half, 2> b0, vec<__half, 2> b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(upper.x), "+f"(upper.y), "+f"(lower.x), "+f"(lower.y)
      : "r"(as_type<uint>(a00)), "r"(as_type<uint>(a10)), "r"(as_type<uint>(a01)),
        "r"(as_type<uint>(a11)), "r"(as_type<uint>(b0)), "r"(as_type<uint>(b1)));
}

}  // namespace metal
