# SPDX-License-Identifier: MIT
# Three processes put products into a queue of 40, three others take them out, until each has taken the message that
# says there are no more: None.
import multiprocessing
import os
import random
import time


class Producer(multiprocessing.Process):
    def __init__(self, queue):
        multiprocessing.Process.__init__(self)
        self.queue = queue

    def run(self):
        for _ in range(5):
            self.queue.put("one product")
            print("%s (%d) produced one product, the queue has %d now" % (self.name, os.getpid(), self.queue.qsize()))
            time.sleep(random.randint(0, 29) / 1000)


class Consumer(multiprocessing.Process):
    def __init__(self, queue):
        multiprocessing.Process.__init__(self)
        self.queue = queue

    def run(self):
        while True:
            product = self.queue.get()
            if product is None:
                break
            print("%s (%d) consumed %s, the queue has %d now" % (self.name, os.getpid(), product, self.queue.qsize()))
            time.sleep(random.randint(0, 29) / 1000)


if __name__ == "__main__":
    queue = multiprocessing.Queue(40)
    producers = [Producer(queue) for _ in range(3)]
    consumers = [Consumer(queue) for _ in range(3)]
    for process in producers + consumers:
        process.start()
    for producer in producers:
        producer.join()
    for consumer in consumers:
        queue.put(None)
    for consumer in consumers:
        consumer.join()
