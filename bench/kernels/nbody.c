// SPDX-License-Identifier: Apache-2.0

// Floating point, scalar: five bodies under gravity, with divisions and square roots.
#include <math.h>

#include "kernel.h"

#define BODIES 5

static struct body {
    double p[3], v[3], mass;
} bodies[BODIES];

static void step(double dt) {
    for (int i = 0; i < BODIES; i++)
        for (int j = i + 1; j < BODIES; j++) {
            struct body *a = &bodies[i], *b = &bodies[j];
            double d[3], square = 0.01;
            for (int k = 0; k < 3; k++) {
                d[k] = a->p[k] - b->p[k];
                square += d[k] * d[k];
            }
            double pull = dt / (square * sqrt(square));
            for (int k = 0; k < 3; k++) {
                a->v[k] -= d[k] * b->mass * pull;
                b->v[k] += d[k] * a->mass * pull;
            }
        }
    for (int i = 0; i < BODIES; i++)
        for (int k = 0; k < 3; k++)
            bodies[i].p[k] += dt * bodies[i].v[k];
}

static uint64_t kernel(uint32_t count) {
    uint64_t state = 13, sum = 0;
    for (int i = 0; i < BODIES; i++) {
        for (int k = 0; k < 3; k++) {
            bodies[i].p[k] = (double)(next_number(&state) >> 44) / 65536.0;
            bodies[i].v[k] = (double)(next_number(&state) >> 44) / 16777216.0;
        }
        bodies[i].mass = 1.0 + i;
    }
    for (uint32_t round = 0; round < count; round++) {
        for (int i = 0; i < 1000; i++)
            step(0.001);
        sum = mix(sum, bits_of(bodies[round % BODIES].p[round % 3]));
    }
    return sum;
}

KERNEL("nbody")
